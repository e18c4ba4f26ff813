"""Rows of unequal length made one array, and the decoder's inputs made from its targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from switch_np.training.vocabulary import PAD


def pad(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (B, S), filled up with PAD to the longest, and where they were filled up.

    >>> ids, padding = pad([np.array([1, 2, 3]), np.array([4])])
    >>> ids.tolist()
    [[1, 2, 3], [4, 256, 256]]
    >>> padding.tolist()
    [[False, False, False], [False, True, True]]
    """
    length_B = np.array([len(row) for row in rows])
    padding_BS = np.arange(length_B.max()) >= length_B[:, None]
    ids_BS = np.full(padding_BS.shape, PAD)
    ids_BS[~padding_BS] = np.concatenate(rows)
    return ids_BS, padding_BS


def shift_right(targets: np.ndarray) -> np.ndarray:
    """Return what the decoder is given to name the targets (B, S): PAD, then all but the last.

    >>> shift_right(np.array([[1, 2, 3]])).tolist()
    [[256, 1, 2]]
    """
    return np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
