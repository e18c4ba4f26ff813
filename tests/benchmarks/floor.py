"""The limit: the bare matrix products of a layer or a training step, and nothing between them.

The products are those that backpropagation needs, on the rows that the plan really keeps, each
written into an array that is there already. No product waits for another: only all of the backward
for all of the forward. So hardly any implementation with this BLAS beats it: only where an expert
has few rows is a product faster in another order of its operands, and `switch.experts` turns it.
The layer's limit leaves the router's products out; the step's has all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.products import Both, Runner, of
from benchmarks.subject import Subject
from switch_np import model as models
from switch_np.switch.plan import Plan


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
