"""The experts: E networks, each on its own rows.

Source: section 2.1 and E_i(x) in equation 2 of the paper. A network is `feed_forward` or the like.

Forward:   out[rows of e] = FFN_e(rows[rows of e])
Backward:  the network's own, expert by expert; an expert without rows gets zero gradients.

`schedule` calls `run` once per block: some rows of one expert. `run` writes its rows of the result
in place; the blocks' weight gradients are summed by expert. It changes no formula.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import schedule
from switch_np.switch import feed_forward
from switch_np.switch.plan import Plan


class ExpertsCache(NamedTuple):
    """Saved for backward: each block's cache of the network, and what shapes the gradients."""

    params: Mapping[str, np.ndarray]
    network: Any
    blocks: list[schedule.Block]
    plan: Plan


def forward(params: Mapping[str, np.ndarray], rows_RD: np.ndarray, plan: Plan,
            keep_RF: np.ndarray | None = None, rate: float = 0.0,
            network: Any = feed_forward) -> tuple[np.ndarray, ExpertsCache]:
    """Return the experts' outputs (R, D).

    `params` has the network's parameters, named in its `NAMES`, with an axis for the experts:
    `w_in` (E, D, F), `w_out` (E, F, D). `keep_RF`, `rate`: mask and rate of expert dropout.

    >>> from switch_np.switch.plan import fill
    >>> params = {"w_in": np.full((2, 1, 3), 1.0), "w_out": np.array([[[1.0]] * 3, [[10.0]] * 3])}
    >>> plan = fill(np.array([[0], [1]]), 2, capacity=1)
    >>> forward(params, np.array([[1.0], [2.0]]), plan)[0].tolist()
    [[3.0], [60.0]]
    """
    params = {name: params[name] for name in network.NAMES if name in params}
    out_RD = np.empty_like(rows_RD, np.result_type(rows_RD, *params.values()))

    def run(e: int, block: slice) -> Any:
        weights = {name: value[e] for name, value in params.items()}
        keep = None if keep_RF is None else keep_RF[block]
        _, cache = network.forward(weights, rows_RD[block], keep, rate, out=out_RD[block])
        return cache

    width = params["w_in"].shape[2]                        # F, of the widest array in a block
    blocks = schedule.for_each_block(run, plan.start, width)
    return out_RD, ExpertsCache(params, network, blocks, plan)


def backward(d_out_RD: np.ndarray,
             cache: ExpertsCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_rows (R, D) and the gradients of the parameters (E, ...)."""
    d_rows_RD = np.empty_like(d_out_RD)
    grads = {name: np.empty_like(value) for name, value in cache.params.items()}
    for grad in grads.values():                            # each expert with rows writes its own
        grad[np.diff(cache.plan.start) == 0] = 0

    def run(block: slice, saved: Any, into: Mapping[str, np.ndarray]) -> None:
        cache.network.backward(d_out_RD[block], saved, {"x": d_rows_RD[block], **into})

    schedule.for_each_block_backward(run, cache.blocks, grads)
    return d_rows_RD, grads
