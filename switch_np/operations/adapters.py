"""Arrays of any library, as NumPy arrays, without importing that library.

It takes PyTorch tensors (on any device, with or without gradient), JAX arrays, TensorFlow tensors,
anything with `__array__` or `__dlpack__`, and lists of these. NumPy has no bfloat16, so such values
become float32, which holds every one of them; the name of the original dtype is kept, since it says
how exact the numbers can be.
"""

import sys
from typing import Any

import numpy as np

from switch_np.operations import check
from switch_np.operations.roundoff import PRECISIONS


def to_numpy(value: Any, name: str = "value") -> np.ndarray:
    """Return the numbers in `value` as a new array.

    Parameters
    ----------
    value
        An array or tensor of any library, a number, or a (nested) list of these.
    name
        What a message calls it.

    Returns
    -------
    ndarray
        Of the dtype given; float32 for bfloat16 and the eight-bit floats.

    Raises
    ------
    TypeError
        If `value` holds no numbers.

    Examples
    --------
    >>> to_numpy([[1.0, 2.0]]).shape
    (1, 2)
    """
    if isinstance(value, (list, tuple)):
        return np.stack([to_numpy(part, name) for part in value]) if value else np.zeros(0)
    check.instance("name", name, str)
    check.ordinary(name, value)
    try:
        array = _numbers_of(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(f"{name} must be an array whose numbers can be read, got "
                        f"{type(value).__name__} ({str(error).partition(chr(10))[0]})") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__} "
                        f"of {array.dtype}")
    return array


def _numbers_of(value: Any) -> np.ndarray:
    """Return a copy of the numbers, whatever library holds them."""
    for step in ("detach", "cpu"):                       # PyTorch: off the tape, off the GPU
        if callable(getattr(value, step, None)):
            value = getattr(value, step)()
    if any(kind in dtype_name(value) for kind in ("bfloat16", "float8")):
        library: Any = sys.modules.get(type(value).__module__)
        if callable(getattr(value, "float", None)):      # PyTorch
            value = value.float()
        elif hasattr(library, "float32"):                # MLX, and NumPy with ml_dtypes
            value = value.astype(library.float32)
        else:
            value = np.asarray(value).astype(np.float32)
    try:
        return np.array(np.asarray(value))
    except (TypeError, ValueError, RuntimeError):
        if not hasattr(value, "__dlpack__"):
            raise
        return np.array(np.from_dlpack(value))


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


def shape_of(value: Any, name: str = "the argument") -> tuple[int, ...]:
    """Return the shape, without reading the numbers if the array knows it.

    >>> shape_of([[1, 2, 3]])
    (1, 3)
    """
    return tuple(int(n) for n in getattr(value, "shape", None) or np.shape(to_numpy(value, name)))


def precision_of(*values: Any) -> str | None:
    """Return the coarsest precision among arrays; None where no dtype is one of ours.

    >>> precision_of(np.zeros(2), np.zeros(2, np.float16))
    'float16'
    """
    names = [dtype_name(part) for value in values
             for part in (value if isinstance(value, (list, tuple)) else [value])]
    known = [name for name in PRECISIONS if name in names]         # from the finest to the coarsest
    return known[-1] if known else None


def is_finer(one: str, other: str) -> bool:
    """Whether a precision rounds less than another.

    >>> is_finer("float32", "bfloat16"), is_finer("float16", "float16")
    (True, False)
    """
    order = list(PRECISIONS)
    return order.index(one) < order.index(other)
