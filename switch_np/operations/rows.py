"""Rows of an array by index; an index may be missing.

Forward:   y[i] = x[index[i]], and 0 where index[i] is -1
Backward:  none of its own. Where each row of x is taken at most once, the adjoint is a gather by
           the inverse index: for K = 1 dispatch and combine are gathers both ways, for K > 1
           `dispatch.sum_by_token` sums K gathers.
"""

from __future__ import annotations

import numpy as np

from switch_np.operations import threads

COPY = 1 / 8         # cost of copying an element, relative to computing one


def take(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the rows of x (n, ...) that `index` (m,) names, fresh; zeros where it is -1.

    >>> take(np.array([[1.0], [2.0]]), np.array([1, -1, 0]))[:, 0].tolist()
    [2.0, 0.0, 1.0]
    """
    if not len(x):
        return np.zeros_like(x, shape=(len(index), *x.shape[1:]))
    size = int(len(index) * x[0].size * COPY)
    if threads.alone(size):
        rows = x.take(index, 0, mode="clip")
    else:
        rows = np.empty_like(x, shape=(len(index), *x.shape[1:]))
        threads.each(lambda mine: np.take(x, index[mine], 0, rows[mine], "clip"),
                     threads.cut(0, len(index), x[0].size), size=size)
    if index.min(initial=0) < 0:
        rows[index < 0] = 0            # "clip" read row 0 for them
    return rows
