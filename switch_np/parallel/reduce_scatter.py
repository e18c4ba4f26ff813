"""Reduce-scatter: the ranks' arrays are added up, and each rank keeps a stretch of the sum.

Forward:   y_r = Σ_s x_s[stretch of r], in the order of s: an exchange, then a sum
Backward:  each x_s enters every stretch once, with factor 1: d_x_s = [d_y_0, d_y_1, ...] on every
           rank. The adjoint is the all-gather.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from switch_np.parallel.communicator import Communicator


def forward(x: np.ndarray, lengths: Sequence[int], comm: Communicator,
            what: str = "x") -> np.ndarray:
    """Return this rank's stretch, lengths[rank] rows of the sum; x (L, ...) on every rank.

    >>> from switch_np.parallel import simulated
    >>> x = np.array([[1, 2, 3], [10, 20, 30]])          # of rank 0 and rank 1
    >>> simulated.run(2, lambda comm: forward(x[comm.rank], [2, 1], comm).tolist())
    [[11, 22], [33]]
    """
    own = lengths[comm.rank]
    arrived = comm.exchange(f"reduce_scatter of {what}", x, lengths, [own] * comm.size)
    return reduce(np.add, arrived.reshape(comm.size, own, *x.shape[1:]))


def backward(d_y: np.ndarray, lengths: Sequence[int], comm: Communicator,
             what: str = "d_x") -> np.ndarray:
    """Return d_x (L, ...), the same on every rank."""
    return comm.exchange(f"all_gather of {what}", d_y, None, lengths)
