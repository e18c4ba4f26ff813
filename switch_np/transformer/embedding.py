"""The embedding: one vector per token id.

Forward:   x[b, s] = table[ids[b, s]]
Backward:  d_table[v] = Σ d_x[b, s] over the tokens with ids[b, s] = v: sort the tokens by id, then
           sum each run. Rows of ids that do not occur are zero.
"""

import numpy as np


def forward(table_VD: np.ndarray, ids_BS: np.ndarray) -> np.ndarray:
    """Return x (B, S, D)."""
    x_BSD: np.ndarray = table_VD[ids_BS]
    return x_BSD


def backward(d_x_BSD: np.ndarray, ids_BS: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return d_table (V, D).

    >>> backward(np.array([[[1.0], [5.0], [7.0]]]), np.array([[1, 1, 0]]), 3)[:, 0].tolist()
    [7.0, 6.0, 0.0]
    """
    d_x_TD = d_x_BSD.reshape(-1, d_x_BSD.shape[-1])
    order = np.argsort(ids_BS, axis=None, kind="stable")
    found, begin = np.unique(ids_BS.ravel()[order], return_index=True)
    d_table_VD = np.zeros((vocab_size, d_x_TD.shape[1]), d_x_TD.dtype)
    if len(found):
        d_table_VD[found] = np.add.reduceat(d_x_TD[order], begin, axis=0)
    return d_table_VD
