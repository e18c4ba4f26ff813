"""The route: how many rows a rank sends to each rank, and for which experts rows arrive.

Source: section 5 of the paper. A rank has the plan of its own tokens. Its rows are sorted by
expert, hence by the rank that holds the expert. What arrives is sorted by source and then by
expert; the experts want it by expert and then by source, as one process has it with the ranks as
its groups.

No new operation is needed for that: arriving rows are tokens whose experts are known. `plan.fill`
makes their plan, and `switch.dispatch` sorts them and sorts them back.
"""

from typing import NamedTuple

import numpy as np

from switch_np.parallel import all_to_all
from switch_np.parallel.communicator import Communicator
from switch_np.switch.plan import Plan, fill


class Route(NamedTuple):
    """Rows to each rank and from each; the plan of those that come, by this rank's experts."""

    to: list[int]
    come: list[int]
    plan: Plan


def decide(plan: Plan, comm: Communicator, name: str = "") -> Route:
    """Return the route of a rank's plan.

    With the paper's fixed buffers all ranks know these numbers: C rows for each expert and group.
    Packed rows need the counts first, an all-to-all of E integers.

    >>> from switch_np.parallel import simulated
    >>> expert = np.array([[[0], [0], [1]], [[1], [1], [1]]])             # of rank 0 and rank 1
    >>> routes = simulated.run(2, lambda comm: decide(fill(expert[comm.rank], 2), comm))
    >>> [(route.to, route.come) for route in routes]
    [([2, 1], [2, 0]), ([0, 3], [1, 3])]
    """
    n, count_E = comm.size, np.diff(plan.start)
    own = len(count_E) // n
    if plan.layout == "buffers":
        coming = count_E.reshape(n, own)
    else:
        coming = all_to_all.forward(count_E, [own] * n, [own] * n, comm, f"{name}counts")
    coming = coming.reshape(n, own)
    expert = np.tile(np.arange(own), n).repeat(coming.ravel())
    return Route(count_E.reshape(n, own).sum(axis=1).tolist(), coming.sum(axis=1).tolist(),
                 fill(expert[:, None], own))
