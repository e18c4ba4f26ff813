"""What the model is asked: to name the byte that follows each byte."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from switch_np.model import Batch


def next_byte(rng: np.random.Generator, data: np.ndarray, batch_size: int,
              seq_len: int) -> Batch:
    """Return windows from random places of the text, each with the same window one byte later.

    >>> batch = next_byte(np.random.default_rng(0), np.arange(50, dtype=np.uint8), 2, 3)
    >>> bool((batch.targets == batch.inputs + 1).all())
    True
    """
    begin = rng.integers(0, len(data) - seq_len, batch_size)
    windows = data[begin[:, None] + np.arange(seq_len + 1)].astype(np.int64)
    return Batch(windows[:, :-1], windows[:, 1:])


def held_out(data: np.ndarray, batch_size: int, seq_len: int) -> Iterator[Batch]:
    """Yield the whole text in consecutive windows, none twice; a last short piece is left out.

    >>> [batch.inputs.tolist() for batch in held_out(np.arange(8, dtype=np.uint8), 2, 2)]
    [[[0, 1], [2, 3]], [[4, 5]]]
    """
    windows = (len(data) - 1) // seq_len
    inputs = data[:windows * seq_len].reshape(windows, seq_len).astype(np.int64)
    targets = data[1:windows * seq_len + 1].reshape(windows, seq_len).astype(np.int64)
    for begin in range(0, windows, batch_size):
        yield Batch(inputs[begin:begin + batch_size], targets[begin:begin + batch_size])
