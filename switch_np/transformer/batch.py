"""A batch of token ids, and which of its targets count."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from switch_np.operations import check
from switch_np.transformer.config import ModelConfig
from switch_np.transformer.cross_entropy import IGNORED


class Batch(NamedTuple):
    """Token ids, what shall follow each, and which of them are padding.

    Attributes
    ----------
    inputs
        (B, S) integers, 0 to vocab_size - 1: what the decoder reads.
    targets
        (B, S) integers, the id that follows; `cross_entropy.IGNORED` (-100) does not count.
    padding
        (B, S) bool, True where the input is padding: nobody looks at it, it takes no expert's slot
        and its target does not count. None: no padding.
    source, source_padding
        (B, M) integers that the encoder reads, and (B, M) bool, True where they are padding; None
        for a decoder-only model.
    """

    inputs: np.ndarray
    targets: np.ndarray
    padding: np.ndarray | None = None
    source: np.ndarray | None = None
    source_padding: np.ndarray | None = None


def targets_that_count(batch: Batch, config: ModelConfig) -> np.ndarray:
    """Return the targets (T,), those of padding ignored, once the batch fits."""
    check.instance("batch", batch, Batch)
    check.integers("batch.inputs", batch.inputs, ("B", "S"), 0, config.vocab_size)
    check.integers("batch.targets", batch.targets, batch.inputs.shape,
                   IGNORED, config.vocab_size)
    targets = batch.targets
    bad = (targets < 0) & (targets != IGNORED)
    if bad.any():
        raise ValueError(f"batch.targets must lie in 0 .. {config.vocab_size - 1} or be "
                         f"{IGNORED} (ignored), got {targets[bad][0]}")
    if batch.padding is not None:
        check.booleans("batch.padding", batch.padding, batch.inputs.shape)
        targets = np.where(batch.padding, IGNORED, targets.astype(np.int64))   # holds -100
    if (targets == IGNORED).all():
        raise ValueError(f"batch must hold at least one target that counts, got none in "
                         f"targets of shape {targets.shape}")
    return targets.ravel()


def check_ids(name: str, ids: np.ndarray, padding: np.ndarray | None, config: ModelConfig) -> None:
    """Refuse token ids, or their padding, that do not fit the config."""
    check.integers(name, ids, ("B", "S"), 0, config.vocab_size)
    if ids.size == 0:
        raise ValueError(f"{name} must hold at least one token, got shape {ids.shape}")
    if padding is not None:
        check.booleans("padding" if name == "ids" else f"{name}_padding", padding, ids.shape)


def check_source(source: np.ndarray | None, padding: np.ndarray | None, rows: int,
                 config: ModelConfig) -> None:
    """Refuse a source where there is no encoder to read it, and none where there is one."""
    if (source is None) == (config.encoder is not None):
        wanted = "token ids (B, M)" if config.encoder else "None for a decoder-only model"
        raise ValueError(f"source must be {wanted}, got {'None' if source is None else 'an array'}")
    if source is not None:
        check_ids("source", source, padding, config)
        if len(source) != rows:
            raise ValueError(f"source must have as many rows as ids, {rows}, got {len(source)}")
    elif padding is not None:
        raise ValueError("source_padding must be None without a source, got an array")


def check_memory(memory: np.ndarray | None, padding: np.ndarray | None, rows: int,
                 config: ModelConfig, like: np.ndarray) -> None:
    """Refuse a memory that the decoder has no place for, or that does not fit; or its absence."""
    if (memory is None) == (config.encoder is not None):
        wanted = ("what `encode` returns (B, M, D)" if config.encoder
                  else "None for a decoder-only model")
        raise ValueError(f"memory must be {wanted}, got {'None' if memory is None else 'an array'}")
    if memory is not None:
        check.floats("memory", memory, (rows, "M", config.d_model), like=like)
        if padding is not None:
            check.booleans("memory_padding", padding, memory.shape[:2])
    elif padding is not None:
        raise ValueError("memory_padding must be None without a memory, got an array")
