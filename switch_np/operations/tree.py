"""Nested dicts of arrays and their path names, such as `decoder.1.switch.w_in`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def apply(function: Callable[..., Any], tree: Mapping[str, Any], *others: Mapping[str, Any]) -> Any:
    """Return a tree of function(leaf, ...), over one tree or several of the same structure.

    >>> apply(lambda a, b: a + b, {"x": {"y": 1}}, {"x": {"y": 10}})
    {'x': {'y': 11}}
    """
    return {key: apply(function, value, *(other[key] for other in others))
            if isinstance(value, Mapping) else function(value, *(other[key] for other in others))
            for key, value in tree.items()}
