"""The bytes that a rank sends in one step, by the paper's formulas; `Traffic` counts the real ones.

Source: section 5 of the paper. On n data × m model ranks, with E experts, C slots for each of them
on every rank, and words of w bytes, a rank sends

of every Switch layer, experts shared out    4 (n - 1) / n · E C D w    4 all-to-alls of [E, C, D]
of every Switch layer, d_ff cut              4 (m - 1) / m · E C D w    2 all-reduces of [E, C, D]
once, of P gradients of replicated weights   2 (n - 1) / n · P w        1 all-reduce

since of an all-to-all it keeps its own part, and an all-reduce is a reduce-scatter and an
all-gather. With fixed buffers that is what is counted; packed rows are fewer. Counts, losses, norms
and the masks of dropout come on top: the paper leaves them out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from switch_np.operations import tree
from switch_np.parallel import shards
from switch_np.parallel.mesh import Mesh


def step(slots: Iterable[int], d_model: int, params: Mapping[str, Any], mesh: Mesh,
         word: int) -> float:
    """Return the mean of the ranks' bytes; `slots` has E C of each layer, `word` is of activations.

    `params` are this rank's; their gradients travel in their own precision.

    >>> import numpy as np
    >>> from switch_np.parallel import simulated
    >>> from switch_np.parallel.mesh import lay_out
    >>> params = {"w_router": np.zeros((4, 6)), "w_in": np.zeros((3, 4, 8))}
    >>> simulated.run(2, lambda world: step([12], 4, params, lay_out(world, 2), word=8))
    [960.0, 960.0]
    """
    flat = tree.flatten(params)
    gradients = sum(flat[path].nbytes for path in shards.replicated(flat, mesh))
    rows = sum(slots) * d_model * word
    return (4 * rows * (_sent(mesh.experts.size) + _sent(mesh.model.size))
            + 2 * gradients * _sent(mesh.data.size))


def _sent(ranks: int) -> float:
    return (ranks - 1) / ranks
