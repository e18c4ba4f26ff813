"""Slices of a batch, a few sequences each: taken from arrays, put together again, and summed.

Sequences meet in a Switch layer alone, where they share the experts' buffers; all the rest of a
block takes one slice at a time. The gradients of parameters, which all slices share, are added up
in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import iadd
from typing import Any

import numpy as np

from switch_np.operations import tree


def take(value: np.ndarray | None, mine: slice) -> np.ndarray | None:
    """Return the slice of an array whose first axis is the sequences'; None of None."""
    return None if value is None else value[mine]


def join(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the whole batch from its slices; a single one as it is."""
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
