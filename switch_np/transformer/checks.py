"""Checks of the model's arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from switch_np.operations import check, tree
from switch_np.switch.plan import Plan
from switch_np.transformer.batch import Batch, targets_that_count
from switch_np.transformer.cross_entropy import IGNORED
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.model_parameters import shapes


def check_batch(batch: Batch, config: ModelConfig) -> None:
    """Refuse inputs, targets or padding that do not fit, and a batch in which no target counts."""
    check.instance("batch", batch, Batch)
    check.integers("batch.inputs", batch.inputs, ("B", "S"), 0, config.vocab_size)
    check.integers("batch.targets", batch.targets, batch.inputs.shape, IGNORED, config.vocab_size)
    bad = (batch.targets < 0) & (batch.targets != IGNORED)
    if bad.any():
        raise ValueError(f"batch.targets must lie in 0 .. {config.vocab_size - 1} or be "
                         f"{IGNORED} (ignored), got {batch.targets[bad][0]}")
    if batch.padding is not None:
        check.booleans("batch.padding", batch.padding, batch.inputs.shape)
    if (targets_that_count(batch) == IGNORED).all():
        raise ValueError(f"batch must hold at least one target that counts, got none in "
                         f"targets of shape {batch.targets.shape}")


def check_ids(name: str, ids: np.ndarray, padding: np.ndarray | None, config: ModelConfig) -> None:
    """Refuse token ids, or their padding, that do not fit the config."""
    check.integers(name, ids, ("B", "S"), 0, config.vocab_size)
    if ids.size == 0:
        raise ValueError(f"{name} must hold at least one token, got shape {ids.shape}")
    if padding is not None:
        check.booleans("padding" if name == "ids" else f"{name}_padding", padding, ids.shape)


def check_source(source: np.ndarray | None, padding: np.ndarray | None, rows: int,
                 config: ModelConfig) -> None:
    """Refuse a source without an encoder, an encoder without a source, and what does not fit."""
    check_for_encoder("source", source, "token ids (B, M)", config, padding)
    if source is not None:
        check_ids("source", source, padding, config)
        if len(source) != rows:
            raise ValueError(f"source must have as many rows as ids, {rows}, got {len(source)}")


def check_memory(memory: np.ndarray | None, padding: np.ndarray | None, rows: int,
                 config: ModelConfig, like: np.ndarray) -> None:
    """Refuse a memory without an encoder, an encoder without a memory, and what does not fit."""
    check_for_encoder("memory", memory, "what `encode` returns (B, M, D)", config, padding)
    if memory is not None:
        check.floats("memory", memory, (rows, "M", config.d_model), like=like)
        if padding is not None:
            check.booleans("memory_padding", padding, memory.shape[:2])


def check_for_encoder(name: str, value: Any, wanted: str, config: ModelConfig,
                      padding: np.ndarray | None = None) -> None:
    """Refuse a value where there is no encoder, none where there is one, and padding without it."""
    if (value is None) == (config.encoder is not None):
        wanted = wanted if config.encoder else "None for a decoder-only model"
        came = "an array" if isinstance(value, np.ndarray) else value
        raise ValueError(f"{name} must be {wanted}, got {came}")
    if value is None and padding is not None:
        raise ValueError(f"{name}_padding must be None without a {name}, got an array")


def check_plans(plans: Sequence[Plan] | None, config: ModelConfig) -> None:
    """Refuse plans to replay unless there is one for each Switch layer."""
    if plans is not None and len(plans) != len(config.switch_names):
        raise ValueError(f"plans must be {len(config.switch_names)}, one per Switch layer, "
                         f"got {len(plans)}")


def check_params(params: Mapping[str, Any], config: ModelConfig, finite: bool = False) -> None:
    """Refuse parameters of another structure, shape or precision than the config's."""
    check.instance("params", params, Mapping)
    flat = tree.flatten(params)
    check_size("params", flat, config)
    wanted = shapes(config)
    check.keys("params", flat, set(wanted))
    first = flat["embedding.table"]
    check.floats("params['embedding.table']", first, wanted["embedding.table"])
    for name, value in flat.items():
        check.floats(f"params[{name!r}]", value, wanted[name], like=first, finite=finite)


def check_size(name: str, flat: Mapping[str, Any], config: ModelConfig) -> None:
    """Refuse a config of far more layers than there are arrays, before it lists what each holds."""
    layers = config.num_layers + config.num_encoder_layers
    if layers > len(flat) + 1000:
        raise ValueError(f"{name} must hold arrays for {layers} layers, got {len(flat)} arrays")
