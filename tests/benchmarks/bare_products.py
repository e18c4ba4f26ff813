"""The limit: the matrix products of a layer or a training step, and nothing between them.

They are the products that backpropagation needs, on the rows that the plan keeps, each written with
`np.matmul(..., out=)` into an array that is there already. No product waits for another, except the
backward's for the forward's. The layer's limit leaves out the router's products; the step's has
all. Over several threads the products are dealt out whole, the largest first, those of an expert
together; where that would be uneven, each is cut by rows.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import numpy as np

import switch_np as snp
from benchmarks import problems
from benchmarks.problems import LayerSize, StepSize
from benchmarks.subjects import Subject
from switch_np.operations import threads
from switch_np.switch.plan import Plan

UNEVEN = 1.05        # the busiest thread's work to the mean, above which products are cut
HANDOVER = 2e6       # operations that take as long as handing them to another thread
POOL = ThreadPoolExecutor(threads.count())

Product = tuple[np.ndarray, np.ndarray, np.ndarray]     # a, b and out = a @ b, or batches of them


class Products(NamedTuple):
    """Those of a forward and those of a backward, in groups that stay on one thread."""

    forward: list[list[Product]]
    backward: list[list[Product]]

    def __add__(self, more: "Products") -> "Products":
        return Products(self.forward + more.forward, self.backward + more.backward)


NONE = Products([], [])


def of(a: np.ndarray, b: np.ndarray) -> Products:
    """Return the products of y = a b: y itself, and both gradients."""
    out = np.matmul(a, b)
    return Products([[(a, b, out)]],
                    [[(a.swapaxes(-1, -2), out, np.empty(b.shape, b.dtype))],
                     [(out, b.swapaxes(-1, -2), np.empty(a.shape, a.dtype))]])


def network(x: np.ndarray, w_in: np.ndarray, w_out: np.ndarray) -> Products:
    """Return the six products of a feed-forward network."""
    first = of(x, w_in)
    second = of(first.forward[0][0][2], w_out)
    return Products(first.forward + second.forward, second.backward + first.backward)


def experts(x_TD: np.ndarray, w_in: np.ndarray, w_out: np.ndarray, plan: Plan) -> Products:
    """Return the six products of each expert that has rows, in two groups."""
    found, ends = NONE, plan.kept_load.sum(axis=0).cumsum()
    for e, (begin, end) in enumerate(zip([0, *ends], ends)):
        if end > begin:
            mine = network(x_TD[plan.token[begin:end]], w_in[e], w_out[e])
            found += Products(*([list(chain(*groups))] for groups in mine))
    return found


def by_operation(size: StepSize) -> dict[str, Products]:
    """Return the products of a training step, by the operation that they belong to."""
    config, params, batch = problems.step(size)
    b, s = batch.inputs.shape
    rng = np.random.default_rng(0)
    x_TD = rng.standard_normal((b * s, config.d_model), dtype=np.float32)
    q, k, v = rng.standard_normal((3, b, config.num_heads, s, config.d_kv), dtype=np.float32)
    probs = np.full((b, config.num_heads, s, s), 1 / s, np.float32)
    plans = iter(snp.model.loss(params, batch, config, training=True).plans)
    found = defaultdict(lambda: NONE)
    for layer in range(config.num_layers):
        block = params["decoder"][str(layer)]
        for w in block["attention"].values():
            found["transformer.attention"] += of(x_TD, w)
        found["transformer.attention"] += of(q, k.swapaxes(2, 3)) + of(probs, v)
        if config.is_switch(layer):
            w_router, w_in, w_out = (block["switch"][w] for w in ("w_router", "w_in", "w_out"))
            found["switch.router"] += of(x_TD, w_router)
            found["switch.experts"] += experts(x_TD, w_in, w_out, next(plans))
        else:
            found["transformer.dense"] += network(x_TD, **block["feed_forward"])
    return found | {"transformer.head": of(x_TD, params["embedding"]["table"].T)}


def layer(size: LayerSize) -> Subject:
    """Return the bare products of a layer: those of its experts."""
    config, params, x, _ = problems.layer(size)
    out, _ = snp.switch_layer.forward(params, x, config, training=True)
    return subject(experts(x, params["w_in"], params["w_out"], out.plan))


def step(size: StepSize) -> Subject:
    """Return the bare products of a training step."""
    return subject(sum(by_operation(size).values(), NONE))


def subject(products: Products) -> Subject:
    """Return the forward's products, then the backward's, dealt out and ready to run."""
    dealt = [deal(groups, threads.count()) for groups in products]
    return Subject(lambda: [multiply(hands) for hands in dealt], lambda _: {})


def flops(products: Sequence[Product]) -> int:
    """Count two operations per multiply-add."""
    return sum(2 * out.size * a.shape[-1] for a, _, out in products)


def deal(groups: Sequence[list[Product]], threads: int) -> list[list[Product]]:
    """Return what each thread computes; fewer threads where the work is small."""
    every = list(chain(*groups))
    threads = int(np.clip(flops(every) // HANDOVER, 1, threads))
    hands: list[list[Product]] = [[] for _ in range(threads)]
    for group in sorted(groups, key=flops, reverse=True):
        min(hands, key=flops).extend(group)
    if max(map(flops, hands)) > UNEVEN * flops(every) / threads:
        hands = [[piece(product, n, threads) for product in every] for n in range(threads)]
    return hands


def piece(product: Product, n: int, count: int) -> Product:
    """Return the n-th of equal pieces, cut along the first axis of the output."""
    a, b, out = product
    cut = slice(len(out) * n // count, len(out) * (n + 1) // count)
    return a[cut], b[cut] if b.ndim > 2 else b, out[cut]


def multiply(hands: Sequence[list[Product]]) -> None:
    """Compute what each thread was dealt; the first hand is the calling thread's."""
    others = POOL.map(one_by_one, hands[1:])
    one_by_one(hands[0])
    list(others)                                # waits for them


def one_by_one(hand: Sequence[Product]) -> None:
    """Compute products on this thread."""
    for a, b, out in hand:
        np.matmul(a, b, out=out)
