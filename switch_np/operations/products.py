"""A matrix product with a transposed weight, y = x Wᵀ, in the order that suits the BLAS.

If x has few rows, it is computed as (W xᵀ)ᵀ: transposing a small y in NumPy is faster than the
BLAS's repacking of a large W.
"""

from __future__ import annotations

import numpy as np


def times_transposed(x: np.ndarray, w: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return x wᵀ (n, i) for x (n, j) and w (i, j): fresh, or in `out`.

    >>> times_transposed(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])).tolist()
    [[11.0, 17.0]]
    """
    if 2 * len(x) > min(w.shape):
        return np.asanyarray(np.matmul(x, w.T, out=out))
    if out is None:
        turned: np.ndarray = (w @ x.T).T
        return turned.copy()
    out[...] = (w @ x.T).T
    return out
