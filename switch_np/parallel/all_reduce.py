"""All-reduce: every rank gets the sum of the ranks' arrays.

Source: section 5 of the paper: of gradients, where weights are replicated; of activations, where
d_ff is cut, since h W_out sums over it.

Forward:   y_r = Σ_s x_s for all r: a reduce-scatter, then an all-gather. So a rank sends no more
           than 2 (n - 1) / n of the array.
Backward:  d_x_s = Σ_r d_y_r on every rank: the adjoint of a composition is that of its parts in the
           other order, here the same composition. The all-reduce is its own adjoint.
Where all ranks compute one and the same loss from y, each holds the whole d_y, not a share of it,
and d_x_s = d_y: nothing is sent. But then an x that all hold alike, on the way in, has on each rank
only a share of its gradient: there the backward has an all-reduce, and the forward none.
"""

import numpy as np

from switch_np.parallel import all_gather
from switch_np.parallel.communicator import Communicator


def forward(x: np.ndarray, comm: Communicator, what: str = "x") -> np.ndarray:
    """Return the sum, shaped like x; x itself if this rank is alone.

    >>> from switch_np.parallel import simulated
    >>> simulated.run(3, lambda comm: int(forward(np.array(10 ** comm.rank), comm)))
    [111, 111, 111]
    """
    if comm.size == 1:
        return x
    lengths = [(x.size + comm.size - 1 - r) // comm.size for r in range(comm.size)]     # near equal
    mine = all_gather.backward(x.reshape(-1), lengths, comm, what)
    return all_gather.forward(mine, lengths, comm, what).reshape(x.shape)


backward = forward
