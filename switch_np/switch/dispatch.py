"""Dispatch: copy each kept token into its row of the expert buffers.

Source: section 2.2 and appendix F of the paper, there as a product with a one-hot (T, E, C) tensor.
Here the plan knows token and row of every kept choice, and no such tensor is made.

Forward:   rows[row_N] = x[token_N]: a gather; rows without a token are zero
Backward:  d_x[t] = Σ d_rows[r] over the rows r that hold token t: `add_back`, its adjoint
"""

from __future__ import annotations

import numpy as np

from switch_np.switch.plan import Plan


def forward(x_TD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the rows (R, D) handed to the experts.

    >>> from switch_np.switch.plan import fill
    >>> plan = fill(np.array([[1], [0]]), 2, capacity=2, layout="buffers")
    >>> forward(np.array([[5.0], [6.0]]), plan)[:, 0].tolist()
    [6.0, 0.0, 5.0, 0.0]
    """
    if plan.layout == "packed":
        return x_TD.take(plan.token, axis=0)     # several times faster than x_TD[plan.token]
    rows_RD = np.zeros((plan.num_rows, x_TD.shape[1]), x_TD.dtype)
    rows_RD[plan.row] = x_TD.take(plan.token, axis=0)
    return rows_RD


def backward(d_rows_RD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return d_x (T, D)."""
    return add_back(take_rows(d_rows_RD, plan), plan)


def take_rows(rows_RD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the rows (N, D) that hold a token, in the order of the plan."""
    return rows_RD if plan.layout == "packed" else rows_RD[plan.row]


def add_back(rows_ND: np.ndarray, plan: Plan) -> np.ndarray:
    """Return (T, D): for each token the sum of its kept rows, 0 for a dropped one.

    An expert meets a token at most once, so within one expert the indices are distinct and plain
    indexed addition is exact; the experts are added in their order, so the result is deterministic.
    """
    sums_TD = np.zeros((len(plan.expert), rows_ND.shape[1]), rows_ND.dtype)
    if plan.expert.shape[1] == 1:
        sums_TD[plan.token] = rows_ND
        return sums_TD
    ends = plan.kept_load.sum(axis=0).cumsum()
    for begin, end in zip(np.append(0, ends), ends):
        sums_TD[plan.token[begin:end]] += rows_ND[begin:end]
    return sums_TD
