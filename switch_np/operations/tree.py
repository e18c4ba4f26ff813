"""Nested dicts of arrays and their path names, such as `decoder.1.switch.w_in`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Return a flat dict from path name to array, in the order of the tree.

    >>> flatten({"a": {"b": 1, "c": 2}, "d": 3})
    {'a.b': 1, 'a.c': 2, 'd': 3}
    """
    flat = {}
    for key, value in tree.items():
        if hasattr(value, "items"):       # far faster than isinstance(value, Mapping)
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dict that `flatten` took apart.

    >>> unflatten({"a.b": 1, "a.c": 2, "d": 3})
    {'a': {'b': 1, 'c': 2}, 'd': 3}
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, leaf = path.split(".")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = value
    return tree


def apply(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Return the tree of function(leaf, ...), over one tree or several of the same structure.

    >>> apply(lambda a, b: a + b, {"x": {"y": 1}}, {"x": {"y": 10}})
    {'x': {'y': 11}}
    """
    if not hasattr(tree, "items"):
        return function(tree, *others)
    return {key: apply(function, *(each[key] for each in (tree, *others))) for key in tree}


def leaves(tree: Mapping[str, Any]) -> list[Any]:
    """Return the arrays of a tree in the order of their names, those of less than two axes first.

    >>> leaves({"b": np.ones((1, 1)), "a": {"d": np.zeros(2), "c": np.array([[3.0]])}})
    [array([0., 0.]), array([[3.]]), array([[1.]])]
    """
    return [node[key] for node, key in _places(tree)]


class Packed(dict[str, Any]):
    """A nested dict whose arrays are views of one buffer (n,), in the order of `leaves`."""

    buffer: np.ndarray


def packed(tree: Mapping[str, Any]) -> Packed:
    """Return a copy of a tree whose arrays have one dtype.

    >>> packed({"b": np.ones((1, 2)), "a": {"c": np.zeros(2)}}).buffer.tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    copy = Packed(apply(lambda leaf: leaf, tree))
    places = _places(copy)
    found = [node[key] for node, key in places]
    copy.buffer = np.concatenate([leaf.ravel() for leaf in found])
    for (node, key), view in zip(places, pieces(copy.buffer, found)):
        node[key] = view
    return copy


def in_one(tree: Mapping[str, Any]) -> np.ndarray:
    """Return all numbers as one array (n,): the buffer of what `packed` made, or else a copy."""
    if isinstance(tree, Packed) and all(leaf.base is tree.buffer for leaf in leaves(tree)):
        return tree.buffer
    return packed(tree).buffer


def put_back(buffer: np.ndarray, tree: Mapping[str, Any]) -> None:
    """Write the numbers of a buffer that `in_one` gave to the tree, unless they are there."""
    if not (isinstance(tree, Packed) and tree.buffer is buffer):
        found = leaves(tree)
        for leaf, piece in zip(found, pieces(buffer, found)):
            leaf[...] = piece


def pieces(buffer: np.ndarray, like: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield views of a buffer (n,), one after the other, shaped like these arrays."""
    end = 0
    for each in like:
        begin, end = end, end + each.size
        yield buffer[begin:end].reshape(each.shape)


def _places(tree: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """Return dict and key of each of the `leaves`."""
    found = _in_order(tree)
    found.sort(key=lambda place: place[0][place[1]].ndim > 1)
    return found


def _in_order(tree: Mapping[str, Any]) -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = []
    for key in sorted(tree):
        found += _in_order(tree[key]) if hasattr(tree[key], "items") else [(tree, key)]
    return found
