"""The precisions in which kernels compute: unit roundoff, range, and rounding to them.

A value x is stored as x (1 + δ), |δ| ≤ u; below the normal numbers the error is half the smallest
subnormal instead. float16 and bfloat16 kernels store so and add up in float32, which is what
matrix units do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from switch_np.operations import check


class Precision(NamedTuple):
    """How a kernel rounds.

    Attributes
    ----------
    name
        As arrays name their dtype.
    store, accumulate
        Unit roundoff of what is stored, and of the sums inside a product.
    smallest, largest
        The smallest subnormal and the largest finite number.
    """

    name: str
    store: float
    accumulate: float
    smallest: float
    largest: float


PRECISIONS = {precision.name: precision for precision in (
    Precision("float64", 2.0 ** -53, 2.0 ** -53, 2.0 ** -1074, float(np.finfo(np.float64).max)),
    Precision("float32", 2.0 ** -24, 2.0 ** -24, 2.0 ** -149, float(np.finfo(np.float32).max)),
    Precision("float16", 2.0 ** -11, 2.0 ** -24, 2.0 ** -24, 65504.0),
    Precision("bfloat16", 2.0 ** -8, 2.0 ** -24, 2.0 ** -133, 2.0 ** 128 * (1 - 2.0 ** -8)),
)}


def named(name: str) -> Precision:
    """Return the precision of this name.

    >>> named("bfloat16").store
    0.00390625
    """
    check.choice("precision", name, list(PRECISIONS))
    return PRECISIONS[name]


def round_to(x: np.ndarray, name: str) -> np.ndarray:
    """Return x rounded to the nearest number of a precision, ties to even, in the dtype of x.

    Parameters
    ----------
    x
        Float array of any shape.
    name
        "float64", "float32", "float16" or "bfloat16".

    Examples
    --------
    >>> round_to(np.array([1.0, 1.001, 3.14159]), "bfloat16").tolist()
    [1.0, 1.0, 3.140625]
    """
    named(name)
    if name != "bfloat16":
        with np.errstate(over="ignore"):
            return x.astype(name).astype(x.dtype)
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    even = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))))
    rounded = (even & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x).astype(x.dtype).reshape(np.shape(x))
