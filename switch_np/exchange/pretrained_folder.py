"""A checkpoint folder as `save_pretrained` leaves it: config.json and .safetensors weights.

The weights are in one file or several; bfloat16, which NumPy lacks, comes as float32, exactly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.exchange import hugging_face
from switch_np.operations import check, files, reading, safetensors
from switch_np.transformer.model_config import ModelConfig

ONE, SEVERAL = "model.safetensors", "model.safetensors.index.json"


class Checkpoint(NamedTuple):
    """A model, the token that its decoder starts with, and the token that ends its output."""

    params: dict[str, Any]
    config: ModelConfig
    start: int
    stop: int | None


def holds_checkpoint(folder: str | Path) -> bool:
    """Return whether a folder looks like such a checkpoint."""
    return (Path(folder) / "config.json").exists() and any(
        (Path(folder) / name).exists() for name in (ONE, SEVERAL))


def load(folder: str | Path) -> Checkpoint:
    """Return the model in a folder; a ValueError names the file that is missing or unfit."""
    folder = Path(folder)
    values = reading.json_file(folder / "config.json")
    with reading.naming(folder / "config.json", "of a Switch Transformer"):
        check.choice("model_type", values.get("model_type"), ["switch_transformers"])
        config, stop = hugging_face.config(values), values.get("eos_token_id", 1)
        start, stop = values.get("decoder_start_token_id") or 0, np.ravel(stop).tolist()[0]
        for name, token in (("decoder_start_token_id", start), ("eos_token_id", stop or 0)):
            check.integer(name, token, 0)
    state = _state(folder)
    with reading.naming(folder, "a folder whose config.json fits its weights"):
        config = hugging_face.config_for(state, config)
        return Checkpoint(hugging_face.params(state, config), config, start, stop)


def save(folder: str | Path, params: Mapping[str, Any], config: ModelConfig) -> None:
    """Write a model so that transformers' `from_pretrained` reads it."""
    state = hugging_face.state_dict(params, config)
    if config.tie_embeddings == "inputs":               # transformers 5 reads a table per stack
        state |= dict.fromkeys(hugging_face.TIED[:3], state["shared.weight"])
    values = hugging_face.config_values(config) | {"dtype": str(next(iter(state.values())).dtype)}
    with files.replacing(Path(folder) / ONE) as file:
        file.write(safetensors.encode(state, {"format": "pt"}, ("F32", "F64")))
    files.write_text(Path(folder) / "config.json", json.dumps(values, indent=2))


def _state(folder: Path) -> dict[str, np.ndarray]:
    names = {ONE}
    if not (folder / ONE).exists() and (folder / SEVERAL).exists():
        file_of = reading.json_file(folder / SEVERAL).get("weight_map")
        if not isinstance(file_of, dict) or not all(isinstance(n, str) for n in file_of.values()):
            raise ValueError(f"{SEVERAL} must hold a 'weight_map' from names to files, got "
                             f"something else in {folder}")
        names = set(file_of.values())
    state: dict[str, np.ndarray] = {}
    for name in sorted(names):
        for key, array in safetensors.read(folder / name)[0].items():
            state[key] = array.astype(np.float32) if array.dtype == np.float16 else array
            with reading.naming(folder / name, "weights"):
                check.floats(key, state[key], array.shape, finite=True)
    return state
