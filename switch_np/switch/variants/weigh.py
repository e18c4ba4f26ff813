"""Gates at the experts' input, and the straight-through dispatch.

Source: Tutel (`is_postscore=False`), Keras' example (both sides), ST-MoE in PyTorch (a dispatch
that has the value of a copy and the gradient of a product).

Forward:   rows'[row of (t, k)] = w[t, k] · rows[row of (t, k)];  straight through: w = 1 + g - ḡ,
           ḡ being g held fixed, so w is 1
Backward:  d_rows = w d_rows',  d_w[t, k] = ⟨d_rows'[row], rows[row]⟩ for a kept choice, else 0.
"""

from __future__ import annotations

import numpy as np

from switch_np.switch.dispatch import take_rows
from switch_np.switch.plan import Plan


def forward(rows_RD: np.ndarray, weights_TK: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the weighted rows (R, D).

    >>> from switch_np.switch.plan import fill
    >>> plan = fill(np.array([[1], [0]]), 2, capacity=1)
    >>> forward(np.array([[5.0], [6.0]]), np.array([[0.5], [2.0]]), plan).tolist()
    [[10.0], [3.0]]
    """
    return rows_RD * _by_row(weights_TK, plan)


def backward(d_rows_RD: np.ndarray, rows_RD: np.ndarray, weights_TK: np.ndarray,
             plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Return d_rows (R, D) before the weights, and d_weights (T, K)."""
    d_weights_TK = np.zeros(weights_TK.shape, d_rows_RD.dtype)
    d_weights_TK[plan.token, plan.choice] = np.einsum(
        "nd,nd->n", take_rows(d_rows_RD, plan), take_rows(rows_RD, plan))
    return d_rows_RD * _by_row(weights_TK, plan), d_weights_TK


def _by_row(weights_TK: np.ndarray, plan: Plan) -> np.ndarray:
    weights_R1 = np.zeros((plan.num_rows, 1), weights_TK.dtype)
    weights_R1[plan.row, 0] = weights_TK[plan.token, plan.choice]
    return weights_R1
