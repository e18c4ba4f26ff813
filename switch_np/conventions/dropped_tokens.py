"""What a token gets if none of its choices was kept: itself, unchanged or times its gates.

Source: transformers 4 (p · x, until the module gave zeros) and labml's Switch layer.

Forward:   y[t] = x[t] · w[t] for the dropped tokens t, 0 for others;  w = 1 (identity) or
           Σ_k g[t, k] (gated identity). The mixture adds it to the experts' output.
Backward:  d_x[t] = w[t] d_y[t],   d_g[t, k] = ⟨d_y[t], x[t]⟩ if gated; 0 for tokens not dropped.
"""

from typing import NamedTuple

import numpy as np


class DroppedCache(NamedTuple):
    """Saved for backward: the arguments of `forward`."""

    x_TD: np.ndarray
    gates_TK: np.ndarray
    dropped_T: np.ndarray
    gated: bool


def forward(x_TD: np.ndarray, gates_TK: np.ndarray, dropped_T: np.ndarray,
            gated: bool) -> tuple[np.ndarray, DroppedCache]:
    """Return what is added to y (T, D).

    >>> x, gates = np.array([[4.0], [6.0]]), np.array([[0.25], [0.5]])
    >>> forward(x, gates, np.array([False, True]), gated=True)[0].tolist()
    [[0.0], [3.0]]
    """
    cache = DroppedCache(x_TD, gates_TK, dropped_T, gated)
    return x_TD * _weight(cache), cache


def backward(d_y_TD: np.ndarray, cache: DroppedCache) -> tuple[np.ndarray, np.ndarray]:
    """Return d_x (T, D) and d_gates (T, K)."""
    along_T1 = (d_y_TD * cache.x_TD).sum(axis=1, keepdims=True)
    d_weight_T1 = along_T1 * cache.dropped_T[:, None] * cache.gated
    return d_y_TD * _weight(cache), np.repeat(d_weight_T1, cache.gates_TK.shape[1], axis=1)


def _weight(cache: DroppedCache) -> np.ndarray:
    dropped_T1 = cache.dropped_T[:, None]         # bools: integers would turn float32 into float64
    return cache.gates_TK.sum(axis=1, keepdims=True) * dropped_T1 if cache.gated else dropped_T1
