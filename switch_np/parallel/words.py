"""What goes over the wire: the bits of arrays; rounded ones as 16-bit words, half of float32's.

Source: section 2.4 of the paper: what an all-to-all carries is bfloat16.

A bfloat16 is the upper half of a float32, so the lower half, all zeros, need not be sent. Nothing
is rounded here: a `Rounded` array has only such numbers, and comes out as it went in.
"""

import numpy as np

from switch_np.operations.rounded import Bfloat16, Rounded, plain


def pack(x: np.ndarray) -> np.ndarray:
    """Return the words to send for x, contiguous; x itself if it is a plain array.

    >>> from switch_np.operations.rounded import enter
    >>> pack(enter(np.array([1.0, -2.0], np.float32), "bfloat16")).tolist()
    [16256, 49152]
    """
    if isinstance(x, Bfloat16):
        x = (plain(x).astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    elif isinstance(x, Rounded):
        x = plain(x).astype(x.precision)
    return np.ascontiguousarray(x)


def unpack(words: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return the numbers that were packed, in the class and dtype of `like`.

    >>> from switch_np.operations.rounded import enter
    >>> x = enter(np.array([0.1, np.inf]), "bfloat16")
    >>> unpack(pack(x), like=x).tolist() == x.tolist()
    True
    """
    if isinstance(like, Bfloat16):
        words = (words.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return words.astype(like.dtype, copy=False).view(type(like))
