"""Slices of a batch, a few sequences each: taken from arrays, joined again, and summed.

Sequences meet only in a Switch layer, where they share the experts' buffers; the rest of a block
takes one slice at a time. Gradients of what all slices share are summed in the slices' order.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import iadd
from typing import Any

import numpy as np

from switch_np.operations import tree


def take(value: np.ndarray | None, mine: slice) -> np.ndarray | None:
    """Return a slice along the first axis; None of None."""
    return None if value is None else value[mine]


def join(values: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """Return the slices as one array; a single one as it is."""
    return values[0] if len(values) == 1 else np.concatenate(values, axis)


def add(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum, written to the first of the values: they must be fresh gradients."""
    return reduce(iadd, values)


def add_trees(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tree of the sums.

    >>> add_trees([{"w": np.ones(2)}, {"w": np.ones(2)}])
    {'w': array([2., 2.])}
    """
    sums: dict[str, Any] = tree.apply(lambda *leaves: add(leaves), *values)
    return sums
