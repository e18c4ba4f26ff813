"""A batch of token ids, and which of its targets count."""

from typing import NamedTuple

import numpy as np

from switch_np.transformer.cross_entropy import IGNORED


class Batch(NamedTuple):
    """Token ids, the ids that follow them, and what is padding.

    Attributes
    ----------
    inputs, targets
        (B, S) integers, 0 to vocab_size - 1: what the decoder reads, and what follows each. A
        target of `cross_entropy.IGNORED` (-100) does not count.
    padding
        (B, S) bool, True where the input is padding: nothing attends to it, it takes no expert's
        slot, and its target does not count. None: no padding.
    source, source_padding
        (B, M) what the encoder reads, and its padding; None for a decoder-only model.
    """

    inputs: np.ndarray
    targets: np.ndarray
    padding: np.ndarray | None = None
    source: np.ndarray | None = None
    source_padding: np.ndarray | None = None


def targets_that_count(batch: Batch) -> np.ndarray:
    """Return the targets (T,), with those of padding set to IGNORED.

    >>> targets_that_count(Batch(np.array([[5, 6]]), np.array([[6, 7]]), np.array([[False, True]])))
    array([   6, -100])
    """
    if batch.padding is None:
        return batch.targets.ravel()
    targets_BS = batch.targets.astype(np.int64)          # unsigned ids could not hold -100
    return np.where(batch.padding, IGNORED, targets_BS).ravel()
