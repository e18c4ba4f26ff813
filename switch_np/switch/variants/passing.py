"""What a token gets of which no choice was kept: itself, as it is or times its gates.

Source: transformers 4 (p · x, until the module gave zeros) and labml's Switch layer.

Forward:   y[t] = x[t] · w[t] for the tokens t that were lost, 0 for others;  w = 1 (identity) or
           Σ_k g[t, k] (gated identity). The caller adds it to the experts' output.
Backward:  d_x[t] = w[t] d_y[t],  d_g[t, k] = ⟨d_y[t], x[t]⟩ if gated; 0 for tokens not lost.
"""

from __future__ import annotations

import numpy as np


def forward(x_TD: np.ndarray, gates_TK: np.ndarray, lost_T: np.ndarray, gated: bool) -> np.ndarray:
    """Return what is added to y (T, D).

    >>> x, gates = np.array([[4.0], [6.0]]), np.array([[0.25], [0.5]])
    >>> forward(x, gates, np.array([False, True]), gated=True).tolist()
    [[0.0], [3.0]]
    """
    return x_TD * _weight(gates_TK, lost_T, gated)


def backward(d_y_TD: np.ndarray, x_TD: np.ndarray, gates_TK: np.ndarray, lost_T: np.ndarray,
             gated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return d_x (T, D) and d_gates (T, K)."""
    d_weight_T1 = (d_y_TD * x_TD).sum(axis=1, keepdims=True) * lost_T[:, None] * gated
    return (d_y_TD * _weight(gates_TK, lost_T, gated),
            np.repeat(d_weight_T1, gates_TK.shape[1], axis=1))


def _weight(gates_TK: np.ndarray, lost_T: np.ndarray, gated: bool) -> np.ndarray:
    lost_T1 = lost_T[:, None]          # of bools: whole numbers would make float64 of float32
    return gates_TK.sum(axis=1, keepdims=True) * lost_T1 if gated else lost_T1
