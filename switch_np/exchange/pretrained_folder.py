"""A checkpoint folder as `save_pretrained` leaves it: config.json and .safetensors weights.

The weights, in one file or several, are read and written with the library `safetensors`
(`pip install switch_np[hugging-face]`). NumPy has no bfloat16: such weights come as float32, which
represents them exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.exchange import hugging_face
from switch_np.operations import files
from switch_np.transformer.model_config import ModelConfig

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
ONE, SEVERAL = "model.safetensors", "model.safetensors.index.json"


class Checkpoint(NamedTuple):
    """A model, the token that its decoder starts with, and the token that ends its output."""

    params: dict[str, Any]
    config: ModelConfig
    start: int
    stop: int | None


def holds_checkpoint(folder: str | Path) -> bool:
    """Tell whether a folder looks like such a checkpoint."""
    return (Path(folder) / "config.json").exists() and any(
        (Path(folder) / name).exists() for name in (ONE, SEVERAL))


def load(folder: str | Path) -> Checkpoint:
    """Return the model in a folder.

    Raises ValueError, naming the file, if one is missing, broken, or of another model; ImportError
    without the `safetensors` library.
    """
    folder = Path(folder)
    values = _json(folder / "config.json")
    kind = values.get("model_type")
    if kind != "switch_transformers":
        raise ValueError(f"config.json must have model_type 'switch_transformers', got {kind!r} "
                         f"in {folder}")
    config = hugging_face.config(values)
    params = hugging_face.params(_state(folder), config)
    stop = values.get("eos_token_id", 1)
    return Checkpoint(params, config, values.get("decoder_start_token_id") or 0,
                      stop[0] if isinstance(stop, list) else stop)


def save(folder: str | Path, params: Mapping[str, Any], config: ModelConfig) -> None:
    """Write a model so that transformers' `from_pretrained` reads it."""
    state = hugging_face.state_dict(params, config)
    values = hugging_face.config_values(config) | {"dtype": str(next(iter(state.values())).dtype)}
    weights = _library("safetensors.numpy").save(state, {"format": "pt"})
    for name, content in (ONE, weights), ("config.json", json.dumps(values, indent=2).encode()):
        with files.replacing(Path(folder) / name) as file:
            file.write(content)


def _state(folder: Path) -> dict[str, np.ndarray]:
    """Return every array of the weight files, under its name."""
    names = {ONE}
    if not (folder / ONE).exists() and (folder / SEVERAL).exists():
        file_of = _json(folder / SEVERAL).get("weight_map")
        if not isinstance(file_of, dict) or not all(isinstance(n, str) for n in file_of.values()):
            raise ValueError(f"{SEVERAL} must hold a 'weight_map' from names to files, got "
                             f"something else in {folder}")
        names = set(file_of.values())
    safetensors = _library("safetensors")
    state: dict[str, np.ndarray] = {}
    for name in sorted(names):
        try:
            found = safetensors.deserialize((folder / name).read_bytes())
        except (OSError, safetensors.SafetensorError) as error:
            raise ValueError(f"{name} must be a readable safetensors file, got {error} "
                             f"in {folder}") from error
        state |= {key: _array(key, value) for key, value in found}
    return state


def _array(name: str, value: Mapping[str, Any]) -> np.ndarray:
    """Return one array of a file; bfloat16 is the upper half of a float32."""
    if value["dtype"] not in DTYPES:
        raise ValueError(f"{name} must be one of {', '.join(DTYPES)}, got {value['dtype']}")
    array = np.frombuffer(value["data"], DTYPES[value["dtype"]]).reshape(value["shape"])
    if value["dtype"] == "BF16":
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32) if value["dtype"] == "F16" else array


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} must be a readable JSON file, got {error} "
                         f"in {path.parent}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got {type(values).__name__} in "
                         f"{path.parent}")
    return values


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError("reading and writing .safetensors takes the safetensors library: "
                          "pip install safetensors") from error
