"""All-to-all: each rank sends different rows to each rank.

Source: section 5 of the paper: a token goes to the rank of its expert, and its result comes back.

Forward:   y_r = the rows that each rank s had for r, in the order of s
Backward:  of all ranks' rows together this is a permutation P, so the adjoint is Pᵀ = P⁻¹: the rows
           go back where they came from, and `to` and `come` change places.
"""

from collections.abc import Sequence

import numpy as np

from switch_np.parallel.communicator import Communicator


def forward(rows: np.ndarray, to: Sequence[int], come: Sequence[int], comm: Communicator,
            what: str = "rows") -> np.ndarray:
    """Return the rows that come; `to` and `come` count them by rank, `rows` stand in that order.

    >>> from switch_np.parallel import simulated
    >>> mine = np.array([[10, 11], [20, 21]])            # of rank 0 and rank 1, for each a row
    >>> simulated.run(2, lambda comm: forward(mine[comm.rank], [1, 1], [1, 1], comm).tolist())
    [[10, 20], [11, 21]]
    """
    return comm.exchange(f"all_to_all of {what}", rows, to, come)


def backward(d_rows: np.ndarray, to: Sequence[int], come: Sequence[int], comm: Communicator,
             what: str = "d_rows") -> np.ndarray:
    """Return the rows to where they came from; `to` and `come` are those of `forward`."""
    return forward(d_rows, come, to, comm, what)
