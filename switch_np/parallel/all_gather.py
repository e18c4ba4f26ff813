"""All-gather: every rank gets what each has.

Forward:   y_r = [x_0, x_1, ...] for all r: a copy for each, then an exchange
Backward:  x_r was copied to n ranks, each of which uses it: d_x_r = Σ_s d_y_s[stretch of r]. The
           adjoint is the reduce-scatter.
"""

from collections.abc import Sequence

import numpy as np

from switch_np.parallel import reduce_scatter
from switch_np.parallel.communicator import Communicator


def forward(x: np.ndarray, lengths: Sequence[int], comm: Communicator,
            what: str = "x") -> np.ndarray:
    """Return all ranks' rows; rank r has lengths[r] of them.

    >>> from switch_np.parallel import simulated
    >>> simulated.run(2, lambda comm: forward(np.arange(comm.rank + 1), [1, 2], comm).tolist())
    [[0, 0, 1], [0, 0, 1]]
    """
    return reduce_scatter.backward(x, lengths, comm, what)


def backward(d_y: np.ndarray, lengths: Sequence[int], comm: Communicator,
             what: str = "d_x") -> np.ndarray:
    """Return d_x (lengths[rank], ...)."""
    return reduce_scatter.forward(d_y, lengths, comm, what)
