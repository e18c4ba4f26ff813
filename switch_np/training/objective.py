"""The task "lm": predict the byte that follows each byte."""

from collections.abc import Iterator

import numpy as np

from switch_np.training import corpus
from switch_np.transformer.batch import Batch


def next_byte(rng: np.random.Generator, data: np.ndarray, batch_size: int, seq_len: int) -> Batch:
    """Return windows from random positions; the targets are the same windows one byte later.

    >>> batch = next_byte(np.random.default_rng(0), np.arange(50, dtype=np.uint8), 2, 3)
    >>> bool((batch.targets == batch.inputs + 1).all())
    True
    """
    windows = corpus.windows(data, seq_len + 1)
    return _batch(windows[rng.integers(0, len(windows), batch_size)])


def held_out(data: np.ndarray, batch_size: int, seq_len: int) -> Iterator[Batch]:
    """Yield the text in consecutive windows, each byte a target once; a short rest is left out.

    >>> [batch.inputs.tolist() for batch in held_out(np.arange(8, dtype=np.uint8), 2, 2)]
    [[[0, 1], [2, 3]], [[4, 5]]]
    """
    windows = corpus.windows(data, seq_len + 1)[::seq_len]
    for begin in range(0, len(windows), batch_size):
        yield _batch(windows[begin:begin + batch_size])


def _batch(windows: np.ndarray) -> Batch:
    ids = windows.astype(np.int64)
    return Batch(ids[:, :-1], ids[:, 1:])
