"""The ids of text-to-text tasks: the 256 bytes, and the few that are no text.

Source: Raffel et al. (2020), section 3.1.4, and their code, whose decoder starts from PAD. A
sentinel stands for the text that is missing at its place; T5 has 100 of them, but short windows
need fewer.
"""

from __future__ import annotations

import numpy as np

from switch_np.operations import check
from switch_np.transformer.cross_entropy import IGNORED

PAD = 256                   # fills rows up, and starts the decoder
END = 257                   # ends every source and every target
FIRST_SENTINEL = 258        # sentinel n has the id FIRST_SENTINEL + n
SENTINELS = 32
VOCAB_SIZE = FIRST_SENTINEL + SENTINELS


def encode(text: str | bytes) -> np.ndarray:
    """Return the ids of a text, one per byte of its UTF-8.

    >>> encode("né").tolist()
    [110, 195, 169]
    """
    data = text.encode() if isinstance(text, str) else text
    return np.frombuffer(data, np.uint8).astype(np.int64)


def decode(ids: np.ndarray) -> str:
    """Return ids as text: sentinel n as <n>, while PAD, END and ignored targets leave no trace.

    Bytes that are no UTF-8, such as half a character at a span's edge, become U+FFFD.

    >>> decode(np.array([PAD, 72, 105, FIRST_SENTINEL + 1, 33, END]))
    'Hi<1>!'
    """
    check.integers("ids", ids, ("S",), IGNORED, VOCAB_SIZE)
    return b"".join(map(_piece, ids.tolist())).decode("utf-8", errors="replace")


def is_sentinel(ids: np.ndarray) -> np.ndarray:
    """Return which ids are sentinels."""
    return (FIRST_SENTINEL <= ids) & (ids < VOCAB_SIZE)


def until_end(ids: np.ndarray) -> np.ndarray:
    """Return what stands before the first END; all, if there is none.

    >>> until_end(np.array([72, 105, END, 33])).tolist()
    [72, 105]
    """
    return ids[:(ids != END).cumprod().sum()]


def _piece(token: int) -> bytes:
    if 0 <= token < PAD:
        return bytes([token])
    return f"<{token - FIRST_SENTINEL}>".encode() if token >= FIRST_SENTINEL else b""
