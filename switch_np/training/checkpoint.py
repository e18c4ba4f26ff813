"""Save and load a training run in one .npz file, without pickle.

It holds arrays under their path names, and all else as JSON. An interrupted `save` leaves the
previous file intact.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.operations import files, tree


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
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            flat = {name: file[name] for name in file.files}
        state = json.loads(flat.pop("state").item())
    except OSError as error:
        raise ValueError(f"checkpoint must be a readable file, got {path}: "
                         f"{error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"checkpoint must be an .npz written by a training run, got {path}, "
                         f"which is broken or something else ({error})") from error
    return tree.unflatten(flat), state
