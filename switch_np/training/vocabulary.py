"""The token ids of the tasks "span" and "pairs": the 256 bytes, PAD, END and sentinels.

Source: Raffel et al. (2020), section 3.1.4, and their code, whose decoder starts from PAD. A
sentinel marks where text is missing. T5 has 100 of them; short windows need fewer.
"""

import numpy as np

from switch_np.operations import check
from switch_np.transformer.cross_entropy import IGNORED

PAD = 256                   # pads rows to one length, and starts the decoder
END = 257                   # ends every source and every target
FIRST_SENTINEL = 258        # sentinel n has the id FIRST_SENTINEL + n
SENTINELS = 32
VOCAB_SIZE = FIRST_SENTINEL + SENTINELS


def encode(text: str | bytes) -> np.ndarray:
    """Return the ids (int64) of a text, one per byte of its UTF-8.

    >>> encode("né").tolist()
    [110, 195, 169]
    """
    data = text.encode() if isinstance(text, str) else text
    return np.frombuffer(data, np.uint8).astype(np.int64)


def decode(ids: np.ndarray) -> str:
    """Return ids (S,) as text: sentinel n as <n>; PAD, END and ignored targets are left out.

    Bytes that are not UTF-8, such as half a character at the edge of a span, become U+FFFD.

    >>> decode(np.array([PAD, 72, 105, FIRST_SENTINEL + 1, 33, END]))
    'Hi<1>!'
    """
    check.integers("ids", ids, ("S",), IGNORED, VOCAB_SIZE)
    texts = (bytes([token]) if token < PAD else b"<%d>" % (token - FIRST_SENTINEL)
             for token in ids.tolist() if token >= 0 and token not in (PAD, END))
    return b"".join(texts).decode("utf-8", errors="replace")


def until_end(ids: np.ndarray) -> np.ndarray:
    """Return the ids before the first END; all, if there is none.

    >>> until_end(np.array([72, 105, END, 33])).tolist()
    [72, 105]
    """
    return ids[:(ids != END).cumprod().sum()]


def shift_right(targets: np.ndarray) -> np.ndarray:
    """Return the decoder's inputs for targets (B, S): PAD, then all but the last.

    >>> shift_right(np.array([[1, 2, 3]])).tolist()
    [[256, 1, 2]]
    """
    return np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
