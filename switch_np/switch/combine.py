"""Combine: bring the experts' outputs back to their tokens, weighted by the gates.

Source: equation 2 of the paper; a dropped token gets 0, and the residual connection outside the
layer carries it on (section 2.2).

Forward:   y[t] = Σ_k g[t, k] · out[row of (t, k)] over the kept choices
Backward:  d_out[row of (t, k)] = g[t, k] · d_y[t],  d_g[t, k] = ⟨d_y[t], out[row of (t, k)]⟩ for a
           kept choice, 0 for a dropped one; rows without a token get 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from switch_np.switch.dispatch import add_back, gather, take_rows
from switch_np.switch.plan import Plan


class CombineCache(NamedTuple):
    """Kept: the experts' outputs, for the gates' gradient, and the gates, for the outputs'."""

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
    y_TD = add_back(take_rows(out_RD, plan), plan, gates_TK)
    return y_TD, CombineCache(out_RD, gates_TK, plan)


def backward(d_y_TD: np.ndarray, cache: CombineCache) -> tuple[np.ndarray, np.ndarray]:
    """Return d_out (R, D) and d_gates (T, K)."""
    out_RD, gates_TK, plan = cache
    d_y_ND = gather(d_y_TD, plan)
    d_gates_TK = np.zeros(gates_TK.shape, d_y_ND.dtype)
    d_gates_TK[plan.token, plan.choice] = np.einsum("nd,nd->n", d_y_ND, take_rows(out_RD, plan))
    d_y_ND *= gates_TK[plan.token, plan.choice][:, None]
    if plan.layout == "packed":
        return d_y_ND, d_gates_TK
    d_out_RD = np.zeros(out_RD.shape, d_y_ND.dtype)
    d_out_RD[plan.row] = d_y_ND
    return d_out_RD, d_gates_TK
