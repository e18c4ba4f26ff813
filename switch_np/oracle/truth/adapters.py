"""Arrays of any library, as NumPy arrays, without importing that library.

Whatever can say what it holds is taken: PyTorch tensors (on any device, with or without gradient),
JAX arrays, TensorFlow tensors, anything with `__array__` or `__dlpack__`, and lists of them. NumPy
has no bfloat16, so such values come over as float32, which holds every one of them; the name of
the dtype that came is kept, since it says how exact the numbers can be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from switch_np.operations import check
from switch_np.oracle.truth.roundoff import PRECISIONS


def to_numpy(value: Any, name: str = "the argument") -> np.ndarray:
    """Return the numbers that `value` holds, as an array of its own.

    Parameters
    ----------
    value
        An array or tensor of any library, a number, or a (nested) list of these.
    name
        What a message calls it.

    Returns
    -------
    ndarray
        Of the dtype that came; float32 for bfloat16 and the eight-bit floats.

    Raises
    ------
    TypeError
        Where `value` gives no numbers.

    Examples
    --------
    >>> to_numpy([[1.0, 2.0]]).shape
    (1, 2)
    """
    if isinstance(value, (list, tuple)):
        return np.stack([to_numpy(part, name) for part in value]) if value else np.zeros(0)
    check.ordinary(name, value)
    for step in ("detach", "cpu"):                       # PyTorch: off the tape, off the GPU
        if callable(getattr(value, step, None)):
            value = getattr(value, step)()
    short = any(kind in dtype_name(value) for kind in ("bfloat16", "float8"))
    if short and callable(getattr(value, "float", None)):
        value = value.float()
    elif short:
        value = np.asarray(value).astype(np.float32)
    try:
        array = np.array(np.asarray(value))
    except (TypeError, ValueError, RuntimeError):
        if not hasattr(value, "__dlpack__"):
            raise TypeError(f"{name} must be an array, got {type(value).__name__}") from None
        array = np.array(np.from_dlpack(value))
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__} "
                        f"of {array.dtype}")
    return array


def lift(value: Any, name: str = "the argument") -> np.ndarray:
    """Return the same numbers as a contiguous array of float64.

    >>> lift(np.ones(2, np.float16)).dtype
    dtype('float64')
    """
    array = to_numpy(value, name)
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must hold real numbers, got {array.dtype}")
    return np.ascontiguousarray(array, np.float64).reshape(array.shape)


def dtype_name(value: Any) -> str:
    """Return the name of an array's dtype, without the library's prefix; "" where it has none.

    >>> dtype_name(np.zeros(2, np.float32)), dtype_name(1.0)
    ('float32', '')
    """
    return str(getattr(value, "dtype", "")).rsplit(".", 1)[-1]


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape, without touching the numbers where the array knows it.

    >>> shape_of([[1, 2, 3]])
    (1, 3)
    """
    return tuple(int(n) for n in getattr(value, "shape", None) or np.shape(to_numpy(value)))


def precision_of(*values: Any) -> str | None:
    """Return the coarsest precision among arrays; None where no dtype is one of ours.

    >>> precision_of(np.zeros(2), np.zeros(2, np.float16))
    'float16'
    """
    names = [dtype_name(part) for value in values
             for part in (value if isinstance(value, (list, tuple)) else [value])]
    known = [name for name in PRECISIONS if name in names]         # from the finest to the coarsest
    return known[-1] if known else None
