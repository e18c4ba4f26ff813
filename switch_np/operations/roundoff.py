"""The precisions in which kernels compute: unit roundoff and range.

A value x is stored as x (1 + δ), |δ| ≤ u; below the normal numbers the error is half the smallest
subnormal instead. float16 and bfloat16 kernels store so and add up in float32, which is what
matrix units do.
"""

from typing import NamedTuple

import numpy as np

from switch_np.operations import check

QUARTER = 0.25                         # of the range: beyond, a correct kernel may overflow


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
