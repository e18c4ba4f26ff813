"""Rows of an array by their numbers: a gather in which a row may also be missing.

Forward:   y[i] = x[index[i]], and 0 where index[i] is -1
Backward:  none of its own. Where each row of x is taken at most once, the adjoint is a gather by
           the inverse index: for K = 1 dispatch and combine are gathers both ways, for K > 1
           `dispatch.sum_by_token` adds up K gathers.
"""

from __future__ import annotations

import numpy as np

from switch_np.operations import schedule


def take(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the rows of x (n, ...) that `index` (m,) names, fresh; zeros where it says -1.

    >>> take(np.array([[1.0], [2.0]]), np.array([1, -1, 0]))[:, 0].tolist()
    [2.0, 0.0, 1.0]
    """
    if not len(x):
        return np.zeros_like(x, shape=(len(index), *x.shape[1:]))
    rows = schedule.gather(x, index)                # -1 reads row 0, zeroed below
    if index.min(initial=0) < 0:
        rows[index < 0] = 0
    return rows
