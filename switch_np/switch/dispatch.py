"""Dispatch: copy each kept token into its row of the expert buffers.

Source: section 2.2 and appendix F of the paper, there as a product with a one-hot (T, E, C) tensor.
Here the plan knows token and row of every kept choice, and no such tensor is made.

Forward:   rows[row_N] = x[token_N]: a gather; rows without a token are zero
Backward:  d_x[t] = Σ d_rows[r] over the rows r that hold token t: `add_back`, its adjoint
"""

from __future__ import annotations

import numpy as np

from switch_np.operations import threads
from switch_np.switch.plan import Plan


COPY = 8    # copying a number is so much less than computing one


def forward(x_TD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the rows (R, D) handed to the experts.

    >>> from switch_np.switch.plan import fill
    >>> plan = fill(np.array([[1], [0]]), 2, capacity=2, layout="buffers")
    >>> forward(np.array([[5.0], [6.0]]), plan)[:, 0].tolist()
    [6.0, 0.0, 5.0, 0.0]
    """
    if plan.layout == "packed":
        return gather(x_TD, plan)
    rows_RD = np.zeros((plan.num_rows, x_TD.shape[1]), x_TD.dtype)
    rows_RD[plan.row] = gather(x_TD, plan)
    return rows_RD


def backward(d_rows_RD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return d_x (T, D)."""
    return add_back(take_rows(d_rows_RD, plan), plan)


def gather(x_TD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the rows (N, D) of the kept choices: x[token], with `take`, which is faster."""
    rows_ND = np.empty_like(x_TD, shape=(len(plan.token), x_TD.shape[1]))
    threads.over(lambda part: np.take(x_TD, plan.token[part], 0, rows_ND[part], "clip"),
                 rows_ND.shape, size=rows_ND.size // COPY)
    return rows_ND


def take_rows(rows_RD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the rows (N, D) that hold a token, in the order of the plan."""
    return rows_RD if plan.layout == "packed" else rows_RD[plan.row]


def add_back(rows_ND: np.ndarray, plan: Plan, scale_TK: np.ndarray | None = None) -> np.ndarray:
    """Return (T, D): for each token the sum of its kept rows, each scaled; 0 for a dropped one.

    An expert meets a token at most once, so within one expert the indices are distinct and plain
    indexed addition is exact; the experts are added in their order, so the result is deterministic.
    """
    if plan.expert.shape[1] == 1 and len(rows_ND):
        return _fetch(rows_ND, plan, scale_TK)
    if scale_TK is not None:
        rows_ND = rows_ND * scale_TK[plan.token, plan.choice][:, None]
    sums_TD = np.zeros((len(plan.expert), rows_ND.shape[1]), rows_ND.dtype)
    ends = plan.kept_load.sum(axis=0).cumsum()
    for begin, end in zip(np.append(0, ends), ends):
        sums_TD[plan.token[begin:end]] += rows_ND[begin:end]
    return sums_TD


def _fetch(rows_ND: np.ndarray, plan: Plan, scale_T1: np.ndarray | None) -> np.ndarray:
    """Return the same for one choice per token: it fetches its row, which is faster."""
    if scale_T1 is not None:
        rows_ND = rows_ND.astype(np.result_type(rows_ND, scale_T1), copy=False)
    y_TD = np.empty_like(rows_ND, shape=(len(plan.expert), rows_ND.shape[1]))
    place_T = plan.place[:, 0]

    def fetch(part: slice) -> None:
        mine = np.take(rows_ND, place_T[part], 0, y_TD[part], "clip")
        if scale_T1 is not None:
            mine *= scale_T1[part]

    threads.over(fetch, y_TD.shape, size=y_TD.size // COPY)
    if len(rows_ND) < len(y_TD):
        y_TD[~plan.kept[:, 0]] = 0
    return y_TD
