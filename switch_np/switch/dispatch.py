"""Dispatch copies each kept token to its experts' rows; `combine` brings the results back.

Source: section 2.2 and appendix F of the paper, there a product with a one-hot (T, E, C) tensor.
Here the plan's indices replace it.

Forward:   rows[r] = x[token of r], 0 where a row has no token
Backward:  d_x[t] = Σ_k d_rows[row of (t, k)] over the kept choices: `sum_by_token`, the adjoint
"""

import numpy as np

from switch_np.operations.rows import take
from switch_np.switch.plan import Plan


def forward(x_TD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the experts' rows (R, D).

    >>> from switch_np.switch.plan import fill
    >>> plan = fill(np.array([[1], [0]]), 2, capacity=2, layout="buffers")
    >>> forward(np.array([[5.0], [6.0]]), plan)[:, 0].tolist()
    [6.0, 0.0, 5.0, 0.0]
    """
    return take(x_TD, plan.token_of_row)


def backward(d_rows_RD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return d_x (T, D)."""
    return sum_by_token(d_rows_RD, plan)


def sum_by_token(rows_RD: np.ndarray, plan: Plan) -> np.ndarray:
    """Return (T, D): for each token the sum of its kept choices' rows, 0 if it has none."""
    first_T, *later = plan.row_of_choice.T
    sums_TD = take(rows_RD, first_T)
    for row_T in later:                         # one choice at a time, without a (T, K, D) array
        kept = np.flatnonzero(row_T >= 0)
        sums_TD[kept] += rows_RD[row_T[kept]]
    return sums_TD


def by_row(values: np.ndarray, plan: Plan) -> np.ndarray:
    """Return (R, ...): for each row, its choice's entry of `values` (T, K, ...); 0 if empty."""
    return take(values.reshape(plan.expert.size, *values.shape[2:]), plan.choice_of_row)
