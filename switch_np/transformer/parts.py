"""Parts of a batch: a few sequences at a time go through a block, each part on a thread of its own.

Sequences meet in a Switch layer alone, where they share the experts' buffers. All the rest of a
block takes one part from end to end, so that what an operation leaves in a core's cache is there
for the next. The gradients of parameters, which all parts share, are added up in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import iadd
from typing import Any

import numpy as np

from switch_np.operations import threads, tree

ELEMENTS = 2 ** 16    # of the residual stream in a part at most, where a sequence has not more
LEAST = 2 ** 15       # a batch of fewer than two of these is one part


def cut(num_sequences: int, length: int, width: int) -> list[slice]:
    """Return the parts of a batch; a batch without sequences is one part.

    >>> cut(5, 128, 100)
    [slice(0, 2, None), slice(2, 5, None)]
    """
    half = num_sequences * length * width // 2      # two parts at least, for two threads
    return threads.cut(0, num_sequences, length * width, min(ELEMENTS, max(half, LEAST)))


def take(value: np.ndarray | None, part: slice) -> np.ndarray | None:
    """Return the part of an array whose first axis is the sequences'; None of None."""
    return None if value is None else value[part]


def join(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the whole batch from its parts; a single part as it is."""
    return values[0] if len(values) == 1 else np.concatenate(values)


def add(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum, in the place of the first: fresh gradients go in.

    >>> add([np.ones(2), np.ones(2)]).tolist()
    [2.0, 2.0]
    """
    return reduce(iadd, values)


def add_trees(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tree of the sums.

    >>> add_trees([{"w": np.ones(1)}, {"w": np.ones(1)}])
    {'w': array([2.])}
    """
    return tree.apply(lambda *leaves: add(leaves), *values)
