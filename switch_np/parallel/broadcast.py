"""Broadcast: every rank gets what one of them, the root, has.

Forward:   y_r = x_root for all r
Backward:  d_x_root = Σ_r d_y_r, in the order of r; what the other ranks had is not used, so its
           gradient is 0.
"""

from functools import reduce

import numpy as np

from switch_np.parallel.communicator import Communicator


def forward(x: np.ndarray, comm: Communicator, root: int = 0, what: str = "x") -> np.ndarray:
    """Return the root's x (L, ...); elsewhere only x's shape and dtype count.

    >>> from switch_np.parallel import simulated
    >>> simulated.run(3, lambda comm: forward(np.array([comm.rank]), comm, root=1).tolist())
    [[1], [1], [1]]
    """
    come = [len(x) * (r == root) for r in range(comm.size)]
    return comm.exchange(f"broadcast of {what}", x[:come[comm.rank]], None, come)


def backward(d_y: np.ndarray, comm: Communicator, root: int = 0, what: str = "d_x") -> np.ndarray:
    """Return d_x: at the root the sum, elsewhere zeros."""
    to = [len(d_y) * (r == root) for r in range(comm.size)]
    come = [to[comm.rank]] * comm.size
    arrived = comm.exchange(f"reduce of {what}", d_y, to, come)
    if comm.rank != root:
        return np.zeros_like(d_y)
    return reduce(np.add, arrived.reshape(comm.size, *d_y.shape))
