"""Slices of a batch, a few sequences each: taken from arrays, joined again, and summed.

Gradients of what all slices share are summed in the slices' order.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import iadd
from typing import Any

import numpy as np

from switch_np.operations import tree

KeysAndValues = tuple[np.ndarray, np.ndarray]


def take(value: Any, mine: slice) -> Any:
    """Return a slice of an array along the first axis, or of each array of a pair; None of None."""
    if isinstance(value, tuple):
        return tuple(each[mine] for each in value)
    return None if value is None else value[mine]


def join(values: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """Return the slices as one array; a single one as it is."""
    return values[0] if len(values) == 1 else np.concatenate(values, axis)


def join_pairs(pairs: Iterable[Sequence[np.ndarray]], axis: int = 0) -> KeysAndValues:
    """Return the keys of all pairs as one array, and their values."""
    keys, values = zip(*pairs)
    return join(keys, axis), join(values, axis)


def add(values: Sequence[Any]) -> Any:
    """Return the sum, written to the first of the values: fresh gradients, or trees of them."""
    return reduce(lambda total, more: tree.apply(iadd, total, more), values)
