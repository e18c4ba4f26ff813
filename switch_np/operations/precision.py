"""Round to the nearest bfloat16 or float16, ties to even, in arrays that stay float32 or float64.

bfloat16 is a float32 without its lower 16 bits: 8 significant bits, and float32's range. float16
has 11 significant bits, but ranges from 6e-8 to 65504 only. NaN and infinities stay; what exceeds
the largest number by half a unit or more becomes infinite. float64 is rounded once: going through
float32 would move a number just above a tie onto the tie, and so round it down.
"""

import numpy as np

from switch_np.operations import check

WIDTH = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}      # bytes


def round_to(x: np.ndarray, name: str) -> np.ndarray:
    """Return x, float32 or float64, rounded to the precision of this name, in the dtype of x.

    If that changes nothing, x itself. Rounding would lose a complex step: complex x is refused.

    >>> round_to(np.array([1.0, 1.001, 3.14159]), "bfloat16").tolist()
    [1.0, 1.0, 3.140625]
    """
    check.choice("precision", name, list(WIDTH))
    check.floats("x", x, np.shape(x))
    if x.dtype.kind == "c":
        raise TypeError(f"x must be real to be rounded to {name}, got {x.dtype}")
    if WIDTH[name] >= x.dtype.itemsize:
        return x
    return round_in_place(np.array(x), name)


def round_in_place(x: np.ndarray, name: str) -> np.ndarray:
    """Round x, which is written to, and return it."""
    if name == "bfloat16":
        return _cut(x, 16) if x.dtype == np.float32 else _to_unit(x)
    if name == "float16" and x.dtype == np.float32:
        return _to_float16(x)
    with np.errstate(over="ignore"):
        x[...] = x.astype(name)
    return x


def _cut(x: np.ndarray, lost: int) -> np.ndarray:
    """Add half a unit of float32's last kept bit, less one bit if that bit is 0; cut off the rest.

    A carry runs into the exponent, as it should.
    """
    nan = np.isnan(x)
    bits = x.view(np.uint32)
    extra = bits >> np.uint32(lost)
    extra &= np.uint32(1)
    extra += np.uint32(2 ** (lost - 1) - 1)
    bits += extra
    bits &= np.uint32(2 ** 32 - 2 ** lost)
    if nan.any():                      # the sum may have carried a NaN's bits away
        x[nan] = np.nan
    return x


def _to_float16(x: np.ndarray) -> np.ndarray:
    """Round float32 to float16, whose range is shorter at both ends."""
    small = abs(x) < 2.0 ** -14
    tiny = x[small]
    _cut(x, 13)
    # Near 0.75 the spacing of float32 is that of float16's subnormal numbers.
    x[small] = np.copysign((tiny + np.float32(0.75)) - np.float32(0.75), tiny)
    large = abs(x) > 65504
    x[large] = np.copysign(np.float32(np.inf), x[large])
    return x


def _to_unit(x: np.ndarray) -> np.ndarray:
    """Round float64 to bfloat16: to whole multiples of the unit in its last place."""
    with np.errstate(over="ignore"):
        unit = np.maximum(np.frexp(x)[1] - 8, -133)
        x[...] = np.ldexp(np.rint(np.ldexp(x, -unit)), unit)
    large = abs(x) >= 2.0 ** 128
    x[large] = np.copysign(np.inf, x[large])
    return x
