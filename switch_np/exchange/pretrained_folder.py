"""A checkpoint folder as `save_pretrained` leaves it: config.json and .safetensors weights.

The weights are in one file or several; bfloat16, which NumPy lacks, comes as float32, exactly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.exchange import hugging_face
from switch_np.operations import files, safetensors
from switch_np.transformer.model_config import ModelConfig

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
    """Return the model in a folder; a ValueError names the file that is missing or unfit."""
    folder = Path(folder)
    values = files.read_json(folder / "config.json")
    if (kind := values.get("model_type")) != "switch_transformers":
        raise ValueError(f"config.json must have model_type 'switch_transformers', got {kind!r} "
                         f"in {folder}")
    config, stop = hugging_face.config(values), values.get("eos_token_id", 1)
    return Checkpoint(hugging_face.params(_state(folder), config), config,
                      values.get("decoder_start_token_id") or 0,
                      stop[0] if isinstance(stop, list) else stop)


def save(folder: str | Path, params: Mapping[str, Any], config: ModelConfig) -> None:
    """Write a model so that transformers' `from_pretrained` reads it."""
    state = hugging_face.state_dict(params, config)
    values = hugging_face.config_values(config) | {"dtype": str(next(iter(state.values())).dtype)}
    with files.replacing(Path(folder) / ONE) as file:
        file.write(safetensors.encode(state, {"format": "pt"}, ("F32", "F64")))
    files.write_text(Path(folder) / "config.json", json.dumps(values, indent=2))


def _state(folder: Path) -> dict[str, np.ndarray]:
    """Return every array of the weight files, under its name."""
    names = {ONE}
    if not (folder / ONE).exists() and (folder / SEVERAL).exists():
        file_of = files.read_json(folder / SEVERAL).get("weight_map")
        if not isinstance(file_of, dict) or not all(isinstance(n, str) for n in file_of.values()):
            raise ValueError(f"{SEVERAL} must hold a 'weight_map' from names to files, got "
                             f"something else in {folder}")
        names = set(file_of.values())
    state: dict[str, np.ndarray] = {}
    for name in sorted(names):
        try:
            arrays, _ = safetensors.read(folder / name)
        except OSError as error:
            raise ValueError(f"{name} must be a readable file, got {error} in {folder}") from error
        state |= {key: array.astype(np.float32) if array.dtype == np.float16 else array
                  for key, array in arrays.items()}
    return state
