"""The rectifier, max(x, 0), with slope 0 at the kink.

Forward:   y = x where x > 0, else 0
Backward:  d_x = d_y where y > 0, else 0. y > 0 exactly where x > 0, so y is all that is kept.
"""

from __future__ import annotations

import numpy as np


def forward(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return y, shaped like x: fresh, or in `out`, which may be x.

    >>> forward(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """
    if x.dtype.kind == "c":
        return np.asanyarray(np.multiply(x, x.real > 0, out=out))
    # With the number 0 in place of a row of zeros, NumPy takes three times as long.
    return np.asanyarray(np.maximum(x, np.zeros(x.shape[-1], x.dtype), out=out))


def backward(d_y: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return d_x from d_y and the output y: fresh, or in `out`, which may be d_y."""
    return np.asanyarray(np.multiply(d_y, y.real > 0, out=out))
