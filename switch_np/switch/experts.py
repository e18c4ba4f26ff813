"""The experts: E feed-forward networks, each on its own rows.

Source: section 2.1 of the paper; FFN_e(x) = ReLU(x W_in) W_out without biases, as in T5; expert
dropout on the hidden activation from section 2.4.

Forward, per expert:   h = ReLU(rows W_in) ⊙ keep / (1 - rate),  out = h W_out
Backward, per expert:  d_W_out = hᵀ d_out,  d_h = d_out W_outᵀ, times 1 / (1 - rate) where h > 0 and
                       0 elsewhere,  d_W_in = rowsᵀ d_h,  d_rows = d_h W_inᵀ.
h > 0 just where the rectifier lets through and dropout keeps, so h alone remembers both masks.
An expert to which no token came is skipped: its rows and its gradients stay zero. The others take
a block of rows at a time, so that what one operation leaves in a core's cache is there for the
next, and d_W_in is summed over the blocks; d_W_out, which nothing waits for, is one product apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import dropout, relu, threads
from switch_np.switch.plan import Plan


SHARES = 2           # in which the rows of few experts are cut, for as many threads
BLOCK = 2 ** 18      # elements of the hidden activation: in float32 1 MiB, an L2 cache
Share = tuple[int, list[slice], bool]    # an expert, blocks of its rows, whether they are its first


class ExpertsCache(NamedTuple):
    """Kept: rows in and hidden activation; the products before ReLU are not needed again.

    And who works on which rows, which is worked out once.
    """

    params: Mapping[str, np.ndarray]
    rows_RD: np.ndarray
    hidden_RF: np.ndarray
    rate: float
    plan: Plan
    shares: list[Share]


def forward(params: Mapping[str, np.ndarray], rows_RD: np.ndarray, plan: Plan,
            keep_TKF: np.ndarray | None = None,
            rate: float = 0.0) -> tuple[np.ndarray, ExpertsCache]:
    """Return the experts' outputs (R, D).

    Parameters
    ----------
    params
        `w_in` (E, D, F) and `w_out` (E, F, D).
    rows_RD
        Tokens in the order of the plan's rows.
    plan
        Says which rows are whose.
    keep_TKF, rate
        Mask and rate of expert dropout; the mask is keyed by token and choice.

    Examples
    --------
    >>> from switch_np.switch.plan import fill
    >>> params = {"w_in": np.full((2, 1, 3), 1.0), "w_out": np.array([[[1.0]] * 3, [[10.0]] * 3])}
    >>> plan = fill(np.array([[0], [1]]), 2, capacity=1)
    >>> forward(params, np.array([[1.0], [2.0]]), plan)[0].tolist()
    [[3.0], [60.0]]
    """
    w_in, w_out = params["w_in"], params["w_out"]
    dtype = np.result_type(rows_RD, w_in, w_out)
    fresh = np.empty_like if plan.layout == "packed" else np.zeros_like    # no row without a token
    out_RD = fresh(rows_RD, dtype)
    hidden_RF = fresh(rows_RD, dtype, shape=(len(rows_RD), w_in.shape[2]))
    keep_RF = None
    if keep_TKF is None:
        rate = 0.0
    else:
        keep_RF = np.zeros(hidden_RF.shape, bool)
        keep_RF[plan.row] = keep_TKF[plan.token, plan.choice]

    def run(e: int, mine: slice) -> None:
        hidden = np.matmul(rows_RD[mine], w_in[e], out=hidden_RF[mine])
        relu.forward(hidden, out=hidden)
        if keep_RF is not None:
            hidden[:] = dropout.forward(hidden, keep_RF[mine], rate)
        np.matmul(hidden, w_out[e], out=out_RD[mine])

    shares = _shares(plan, w_in.shape[2])
    threads.each(run, *zip(*((e, block) for e, blocks, _ in shares for block in blocks)),
                 size=hidden_RF.size)
    return out_RD, ExpertsCache(params, rows_RD, hidden_RF, rate, plan, shares)


def backward(d_out_RD: np.ndarray,
             cache: ExpertsCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_rows (R, D) and the gradients of `w_in` and `w_out`."""
    params, rows_RD, hidden_RF, rate, plan, shares = cache
    w_in, w_out = params["w_in"], params["w_out"]
    fresh = np.empty_like if plan.layout == "packed" else np.zeros_like
    d_rows_RD = fresh(d_out_RD)
    grads = {"w_in": np.empty_like(w_in), "w_out": np.empty_like(w_out)}
    for e in set(range(len(w_in))).difference(e for e, *_ in shares):
        grads["w_in"][e] = grads["w_out"][e] = 0
    sums = {name: [grad[e] if first else np.empty_like(grad[e]) for e, _, first in shares]
            for name, grad in grads.items()}

    def into_rows(e: int, blocks: list[slice], d_w_in: np.ndarray) -> None:
        for mine in blocks:
            # Where rows are few, a BLAS takes longer to turn a weight than NumPy to turn them.
            few = 2 * (mine.stop - mine.start) <= rows_RD.shape[1]
            d_hidden = ((w_out[e] @ d_out_RD[mine].T).T.copy() if few else
                        d_out_RD[mine] @ w_out[e].T)
            if rate:
                d_hidden = relu.backward(d_hidden, hidden_RF[mine]) * (1 / (1 - rate))
            else:
                relu.backward(d_hidden, hidden_RF[mine], out=d_hidden)
            if mine is blocks[0]:
                np.matmul(rows_RD[mine].T, d_hidden, out=d_w_in)
            else:
                d_w_in += rows_RD[mine].T @ d_hidden
            if few:
                d_rows_RD[mine] = (w_in[e] @ d_hidden.T).T
            else:
                np.matmul(d_hidden, w_in[e].T, out=d_rows_RD[mine])
            del d_hidden      # before the next block's is made

    def into_w_out(e: int, blocks: list[slice], d_w_out: np.ndarray) -> None:
        mine = slice(blocks[0].start, blocks[-1].stop)
        np.matmul(hidden_RF[mine].T, d_out_RD[mine], out=d_w_out)

    # The longer work comes first, so that the threads end together.
    threads.each(
        lambda work, share, total: work(*share[:2], total),
        [into_rows] * len(shares) + [into_w_out] * len(shares), shares * 2,
        sums["w_in"] + sums["w_out"], size=hidden_RF.size)
    for name, totals in sums.items():
        for (e, _, first), total in zip(shares, totals):
            if not first:
                grads[name][e] += total
    return d_rows_RD, grads


def _shares(plan: Plan, width: int) -> list[Share]:
    """Return who works on which rows: an expert on its own, few experts in several shares."""
    working = busy(plan)
    number = max(SHARES // max(len(working), 1), 1)
    shares = []
    for e, mine in working:
        blocks = threads.cut(mine.start, mine.stop, width, BLOCK)
        size = -(-len(blocks) // number)
        shares += [(e, blocks[begin:begin + size], begin == 0)
                   for begin in range(0, len(blocks), size)]
    return shares


def busy(plan: Plan) -> list[tuple[int, slice]]:
    """Return the experts that got a token, the busiest first, each with its rows."""
    load = np.diff(plan.start) if plan.layout == "packed" else plan.kept_load.sum(axis=0)
    load, start = load.tolist(), plan.start.tolist()
    order = sorted(range(len(load)), key=load.__getitem__, reverse=True)
    return [(e, slice(start[e], start[e + 1])) for e in order if load[e]]
