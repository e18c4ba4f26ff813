"""The limit: the bare matrix products of a layer or a training step, and nothing between them.

The products are those that backpropagation needs, on the rows that the plan really keeps, each
written with `np.matmul(..., out=)` into an array that is there already. No product waits for
another: only all of the backward for all of the forward. So it is what no implementation with this
BLAS can beat. The layer's limit leaves the router's products out; the step's has all.

Over several threads the products are dealt out whole, an expert's together, the largest first;
where that would be uneven, each product is cut by rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cases, settings
from benchmarks.subject import Subject
from switch_np.switch.plan import Plan
from switch_np.transformer import model as models

UNEVEN = 1.05        # the busiest thread's work over the mean, above which products are cut
WORTH = 2e6          # operations for which it takes as long to hand them to another thread


class Product(NamedTuple):
    """out = a @ b, or a batch of them."""

    a: np.ndarray
    b: np.ndarray
    out: np.ndarray

    @property
    def flops(self) -> int:
        """Two per multiply-add."""
        return 2 * self.out.size * self.a.shape[-1]

    def piece(self, part: int, parts: int) -> Product:
        """Return one of several equal parts, cut along the first axis of the output."""
        begin, end = (len(self.out) * n // parts for n in (part, part + 1))
        b = self.b[begin:end] if self.b.ndim > 2 else self.b
        return Product(self.a[begin:end], b, self.out[begin:end])


class Both(NamedTuple):
    """The products of a forward and of a backward, in groups that stay on one thread."""

    forward: list[list[Product]]
    backward: list[list[Product]]

    def __add__(self, more: Both) -> Both:
        return Both(self.forward + more.forward, self.backward + more.backward)


def of(a: np.ndarray, b: np.ndarray) -> Both:
    """Return the products of y = a b: y itself, and both gradients.

    >>> both = of(np.ones((4, 2)), np.ones((2, 3)))
    >>> [product.out.shape for group in both.forward + both.backward for product in group]
    [(4, 3), (2, 3), (4, 2)]
    """
    out = np.matmul(a, b)
    return Both([[Product(a, b, out)]],
                [[Product(a.swapaxes(-1, -2), out, np.empty(b.shape, b.dtype))],
                 [Product(out, b.swapaxes(-1, -2), np.empty(a.shape, a.dtype))]])


def experts(x_TD: np.ndarray, w_in: np.ndarray, w_out: np.ndarray, plan: Plan) -> Both:
    """Return the six products of each expert that got a token."""
    rows_RD, found = x_TD[plan.token], Both([], [])
    ends = plan.kept_load.sum(axis=0).cumsum()
    for e, (begin, end) in enumerate(zip([0, *ends], ends)):
        if end > begin:
            first = of(rows_RD[begin:end], w_in[e])
            second = of(first.forward[0][0].out, w_out[e])
            found = found + Both([first.forward[0] + second.forward[0]],
                                 [[*second.backward[0], *second.backward[1],
                                   *first.backward[0], *first.backward[1]]])
    return found


def deal(groups: Sequence[list[Product]], threads: int) -> list[list[Product]]:
    """Return what each thread computes; fewer threads where the work is small."""
    flops = sum(one.flops for group in groups for one in group)
    threads = int(np.clip(flops // WORTH, 1, threads))
    hands: list[list[Product]] = [[] for _ in range(threads)]
    work = [0] * threads
    for group in sorted(groups, key=lambda group: -sum(one.flops for one in group)):
        least = work.index(min(work))
        hands[least] += group
        work[least] += sum(one.flops for one in group)
    if max(work) > UNEVEN * flops / threads:
        hands = [[one.piece(n, threads) for group in groups for one in group]
                 for n in range(threads)]
    return hands


class Runner:
    """Computes products, over this process's own threads if it is to have some."""

    def __init__(self) -> None:
        self.threads = settings.pool_threads()
        self.pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None

    def run(self, hands: Sequence[list[Product]]) -> None:
        """Compute what `deal` dealt, the first hand in this thread."""
        others = [self.pool.submit(multiply, hand) for hand in hands[1:]]
        multiply(hands[0])
        for other in others:
            other.result()

    def subject(self, both: Both) -> Subject:
        """Return products as a subject that is timed."""
        forward, backward = (deal(groups, self.threads) for groups in both)

        def step() -> None:
            self.run(forward)
            self.run(backward)

        return Subject(step, dict)

    def seconds(self, groups: Sequence[list[Product]]) -> float:
        """Return how long the products take now."""
        hands = deal(groups, self.threads)
        begin = time.perf_counter()
        self.run(hands)
        return time.perf_counter() - begin


def multiply(hand: Sequence[Product]) -> None:
    """Compute products one after the other."""
    for a, b, out in hand:
        np.matmul(a, b, out=out)


def layer(**sizes: Any) -> Subject:
    """Return the bare products of a layer, the experts' alone."""
    case = cases.layer(**sizes)
    _, plan = cases.layer_step(case)
    return Runner().subject(experts(case.x, case.params["w_in"], case.params["w_out"], plan))


def step(**sizes: Any) -> Subject:
    """Return the bare products of a training step."""
    found = Both([], [])
    for more in by_operation(cases.model(**sizes)).values():
        found = found + more
    return Runner().subject(found)


def by_operation(case: cases.ModelCase) -> dict[str, Both]:
    """Return the products of a training step, by the operation that they belong to."""
    config, rng = case.config, np.random.default_rng(0)
    b, s = case.batch.inputs.shape
    d, heads = config.d_model, config.num_heads
    x_TD = rng.standard_normal((b * s, d), dtype=np.float32)
    q, k, v = rng.standard_normal((3, b, heads, s, config.d_kv), dtype=np.float32)
    probs = np.full((b, heads, s, s), 1 / s, np.float32)
    plans = iter(models.loss(case.params, case.batch, config, training=True).plans)
    found = dict.fromkeys(("attention", "dense feed-forward", "router", "experts"), Both([], []))
    found["head"] = of(x_TD, case.params["embedding"]["table"].T)
    for layer in range(config.num_layers):
        block = case.params["decoder"][str(layer)]
        for weight in block["attention"].values():
            found["attention"] += of(x_TD, weight)
        found["attention"] += of(q, k.swapaxes(2, 3)) + of(probs, v)
        if config.is_switch(layer):
            mine = block["switch"]
            found["router"] += of(x_TD, mine["w_router"])
            found["experts"] += experts(x_TD, mine["w_in"], mine["w_out"], next(plans))
        else:
            first = of(x_TD, block["feed_forward"]["w_in"])
            found["dense feed-forward"] += first + of(first.forward[0][0].out,
                                                      block["feed_forward"]["w_out"])
    return found
