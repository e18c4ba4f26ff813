"""All-gather: every rank gets what each has. Its adjoint is the reduce-scatter: `backward`.

Forward:   y_r = [x_0, x_1, ...] for all r: a copy for each rank, then an exchange
Backward:  x_r was copied to n ranks, each of which uses it: d_x_r = Σ_s d_y_s[stretch of r], in the
           order of s. The ranks' arrays are added up, and each keeps its stretch of the sum: an
           exchange, then a sum.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from switch_np.parallel.communicator import Communicator


def forward(x: np.ndarray, lengths: Sequence[int], comm: Communicator,
            what: str = "x") -> np.ndarray:
    """Return all ranks' rows; rank r has lengths[r] of them.

    >>> from switch_np.parallel import simulated
    >>> simulated.run(2, lambda comm: forward(np.arange(comm.rank + 1), [1, 2], comm).tolist())
    [[0, 0, 1], [0, 0, 1]]
    """
    return comm.exchange(f"all_gather of {what}", x, None, lengths)


def backward(d_y: np.ndarray, lengths: Sequence[int], comm: Communicator,
             what: str = "d_x") -> np.ndarray:
    """Return this rank's stretch, lengths[rank] rows of the sum; d_y (L, ...) on every rank.

    >>> from switch_np.parallel import simulated
    >>> d_y = np.array([[1, 2, 3], [10, 20, 30]])          # of rank 0 and rank 1
    >>> simulated.run(2, lambda comm: backward(d_y[comm.rank], [2, 1], comm).tolist())
    [[11, 22], [33]]
    """
    own = lengths[comm.rank]
    arrived = comm.exchange(f"reduce_scatter of {what}", d_y, lengths, [own] * comm.size)
    return reduce(np.add, arrived.reshape(comm.size, own, *d_y.shape[1:]))
