"""Save and load a training run in one .npz file, without pickle.

It holds arrays under their path names, and everything else as JSON. An interrupted `save` leaves
the previous file intact.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.operations import files, reading, tree


def save(path: str | Path, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a tree of arrays, and a dict of what JSON can hold.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/run.npz", {"params": {"w": np.ones(2)}}, {"step": 3})
    ...     load(f"{folder}/run.npz")
    ({'params': {'w': array([1., 1.])}}, {'step': 3})
    """
    flat: dict[str, Any] = {"state": np.array(json.dumps(state)), **tree.flatten(arrays)}
    with files.replacing(path) as file:
        np.savez(file, **flat)


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `save` wrote; ValueError names a file that is missing, broken or another."""
    flat = reading.npz(path)
    with reading.naming(path, "a checkpoint of a training run"):
        state = reading.json_object(flat.pop("state").item())
        return tree.unflatten(flat), state
