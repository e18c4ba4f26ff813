"""Gates at the experts' input, and the straight-through dispatch.

Source: Tutel (`is_postscore=False`), Keras' example (both sides), ST-MoE in PyTorch (a dispatch
that has the value of a copy and the gradient of a product).

Forward:   rows'[row of (t, k)] = w[t, k] · rows[row of (t, k)];  straight through: w = 1 + g - ḡ,
           ḡ being g held fixed, so w is 1
Backward:  d_rows = w d_rows',   d_w[t, k] = ⟨d_rows'[row], rows[row]⟩ for a kept choice, else 0.
"""

from __future__ import annotations

import numpy as np

from switch_np.operations.rows import take
from switch_np.switch import dispatch
from switch_np.switch.plan import Plan


def forward(rows_RD: np.ndarray, weights_TK: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the weighted rows (R, D).

    >>> from switch_np.switch.plan import fill
    >>> plan = fill(np.array([[1], [0]]), 2, capacity=1)
    >>> forward(np.array([[5.0], [6.0]]), np.array([[0.5], [2.0]]), plan).tolist()
    [[10.0], [3.0]]
    """
    weighted_RD: np.ndarray = rows_RD * dispatch.by_row(weights_TK, plan)[:, None]
    return weighted_RD


def backward(d_rows_RD: np.ndarray, rows_RD: np.ndarray, weights_TK: np.ndarray,
             plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Return d_rows (R, D) before the weights, and d_weights (T, K)."""
    d_weights_R = np.einsum("rd,rd->r", d_rows_RD, rows_RD)
    return (d_rows_RD * dispatch.by_row(weights_TK, plan)[:, None],
            take(d_weights_R, plan.row_of_choice.ravel()).reshape(weights_TK.shape))
