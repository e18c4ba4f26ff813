"""Combine brings the experts' outputs back to their tokens, weighted by the gates.

Source: equation 2 of the paper; a dropped token gets 0, and the residual connection carries it on.

Forward:   y[t] = Σ_k g[t, k] · out[row of (t, k)] over the kept choices
Backward:  d_out[row of (t, k)] = g[t, k] · d_y[t],   d_g[t, k] = ⟨d_y[t], out[row of (t, k)]⟩;
           a dropped choice has d_g = 0, a row without a token d_out = 0.
"""

from typing import NamedTuple

import numpy as np

from switch_np.operations.rows import take
from switch_np.switch.dispatch import by_row, sum_by_token
from switch_np.switch.plan import Plan


class CombineCache(NamedTuple):
    """Saved for backward: the experts' outputs, for d_g, and the gates, for d_out."""

    out_RD: np.ndarray
    gates_TK: np.ndarray
    plan: Plan


def forward(out_RD: np.ndarray, gates_TK: np.ndarray,
            plan: Plan) -> tuple[np.ndarray, CombineCache]:
    """Return y (T, D).

    >>> from switch_np.switch.plan import fill
    >>> plan = fill(np.array([[0], [0]]), 1, capacity=1)
    >>> forward(np.array([[8.0]]), np.array([[0.5], [1.0]]), plan)[0].tolist()
    [[4.0], [0.0]]
    """
    weighted_RD = out_RD * by_row(gates_TK, plan)[:, None]
    return sum_by_token(weighted_RD, plan), CombineCache(out_RD, gates_TK, plan)


def backward(d_y_TD: np.ndarray, cache: CombineCache) -> tuple[np.ndarray, np.ndarray]:
    """Return d_out (R, D) and d_gates (T, K)."""
    out_RD, gates_TK, plan = cache
    d_y_RD = take(d_y_TD, plan.token_of_row)
    d_gates_R = np.einsum("rd,rd->r", d_y_RD, out_RD)
    d_gates_TK = take(d_gates_R, plan.row_of_choice.ravel()).reshape(gates_TK.shape)
    return d_y_RD * by_row(gates_TK, plan)[:, None], d_gates_TK
