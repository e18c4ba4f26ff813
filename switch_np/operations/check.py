"""Checks of arguments; a message names the argument, what it must be and what it is.

>>> integer("top_k", 0, at_least=1)
Traceback (most recent call last):
ValueError: top_k must be at least 1, got 0
>>> number("jitter", 1.5, low=0, below=1)
Traceback (most recent call last):
ValueError: jitter must be finite, at least 0 and below 1, got 1.5
>>> floats("x", np.zeros((3, 4)), ("T", 5))
Traceback (most recent call last):
ValueError: x must have shape (T, 5), got (3, 4)
"""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from switch_np.operations import tree


class NotFinite(ValueError):
    """NaN or infinity among numbers that must be finite: the values, not the call, are wrong."""


def integer(name: str, value: Any, at_least: int, below: int | None = None) -> None:
    """Refuse anything but a whole number, at_least <= value < below; a bool is not a number."""
    if not isinstance(value, Integral) or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a whole number, got {described(value)}")
    if int(value) < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    if below is not None and int(value) >= below:
        raise ValueError(f"{name} must be below {below}, got {value}")


def number(name: str, value: Any, low: float = -math.inf, below: float = math.inf) -> None:
    """Refuse anything but a finite real number with low <= value < below."""
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a number, got {described(value)}")
    # typeshed's Real has no order; float() would overflow for a huge int.
    if not (low <= value < below and math.isfinite(value)):  # type: ignore[operator]
        wanted = "finite" + (f", at least {low:g}" if low > -math.inf else "")
        wanted += f" and below {below:g}" if below < math.inf else ""
        raise ValueError(f"{name} must be {wanted}, got {value}")


def flag(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {described(value)}")


def plain(config: Any) -> None:
    """Replace the NumPy scalars of a frozen dataclass by Python's own numbers, in place.

    NumPy's would lift float32 to float64, and JSON takes none but np.float64.

    >>> settings = type("Settings", (), {})()
    >>> settings.rate, settings.steps = np.float64(0.5), np.int64(3)
    >>> plain(settings)
    >>> settings.rate, settings.steps
    (0.5, 3)
    """
    for name, value in vars(config).items():
        if isinstance(value, Real | np.bool_):
            python: type[Any] = (bool if isinstance(value, bool | np.bool_) else
                                 int if isinstance(value, Integral) else float)
            object.__setattr__(config, name, python(value))


def choice(name: str, value: Any, options: Sequence[Any]) -> None:
    """Refuse anything but one of `options`."""
    if not isinstance(value, str) or value not in options:        # == of an array is an array
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")


def nearest(value: Any, options: Iterable[str]) -> str:
    """Return the end of a message that names the option spelt most like `value`, if any.

    >>> nearest("TOP", ["top_k", "groups"]), nearest("x", ["top_k", "groups"])
    ("; did you mean 'top_k'?", '')
    """
    spelt = {option.lower(): option for option in options}
    found = difflib.get_close_matches(str(value).lower(), spelt, n=1)
    return f"; did you mean {spelt[found[0]]!r}?" if found else ""


def precision(name: str, value: Any) -> None:
    """Refuse any dtype but float32 and float64."""
    if isinstance(value, np.ndarray) or value not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"{name} must be float32 or float64, got {value!r}")


def instance(name: str, value: Any, *kinds: type) -> None:
    """Refuse anything but an instance of one of the classes."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be a {wanted}, got {described(value)}")


def floats(name: str, value: Any, shape: Sequence[int | str], *, like: np.ndarray | None = None,
           finite: bool = False, kinds: str = "fc") -> None:
    """Refuse anything but a floating-point array of this shape, real ("f") or complex ("c").

    In `shape` an int demands that length, a letter leaves it open. `value` must have the precision
    of `like`, an array that was checked: float64 goes with complex128, but a mixture with float32
    would silently lift it. `finite` refuses NaN and infinity too.
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {described(value)}")
    if value.dtype.kind not in kinds or value.real.dtype.itemsize < 4:
        raise TypeError(f"{name} must hold float32 or float64 numbers, got {value.dtype}")
    _shape(name, value, shape)
    if like is not None and value.real.dtype != like.real.dtype:
        raise TypeError(f"{name} must be {like.real.dtype} like the rest, got {value.dtype}")
    # The sum of squares is a quick test, which a merely large number fails too.
    if finite and not (np.isfinite(np.vdot(value, value)) or np.isfinite(value).all()):
        raise NotFinite(f"{name} must be finite, got {_first(value, ~np.isfinite(value))}")


def alike(name: str, value: Any, wanted: Mapping[str, Any], finite: bool = False) -> None:
    """Refuse a nested dict whose arrays have other names, shapes or dtypes than the wanted one's.

    >>> alike("grads", {"a": {"b": np.ones(1)}}, {"a": {"b": np.ones(2)}})
    Traceback (most recent call last):
    ValueError: grads['a.b'] must have shape (2,), got (1,)
    """
    instance(name, value, Mapping)
    if _alike(value, wanted):
        numbers = tree.in_one(value) if finite else np.zeros(0)
        if np.isfinite(np.vdot(numbers, numbers)):
            return
    flat, like = tree.flatten(value), tree.flatten(wanted)         # says what does not fit
    keys(name, flat, set(like))
    for path, array in like.items():
        floats(f"{name}[{path!r}]", flat[path], array.shape, like=array, finite=finite,
               kinds=array.dtype.kind)


def _alike(value: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a quick look finds nothing for `alike` to refuse, NaN and infinity aside."""
    if not hasattr(value, "items") or value.keys() != wanted.keys():
        return False
    for key, want in wanted.items():
        have = value[key]
        if hasattr(want, "items"):
            if not _alike(have, want):
                return False
        elif (type(have) is not np.ndarray or have.shape != want.shape or have.dtype != want.dtype
              or have.itemsize < 4):
            return False
    return True


def integers(name: str, value: Any, shape: Sequence[int | str], low: float, below: float) -> None:
    """Refuse anything but whole numbers in an array of this shape, with low <= value < below."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a NumPy array of whole numbers, got {described(value)}")
    _shape(name, value, shape)
    bad = (value < low) | (value >= below)
    if bad.any():
        raise ValueError(f"{name} must lie in {low} .. {below - 1}, got {_first(value, bad)}")


def booleans(name: str, value: Any, shape: Sequence[int | str]) -> None:
    """Refuse anything but an array of bool of this shape."""
    if not isinstance(value, np.ndarray) or value.dtype != bool:
        raise TypeError(f"{name} must be a NumPy array of bool, got {described(value)}")
    _shape(name, value, shape)


def ordinary(name: str, value: Any) -> None:
    """Refuse masked arrays, whose mask would be lost, and np.matrix, whose * is a matrix product.

    >>> ordinary("x", np.ma.array([1.0], mask=[True]))
    Traceback (most recent call last):
    TypeError: x must be a plain array, got a MaskedArray: .filled(...) makes it one
    """
    for kind, remedy in ((np.ma.MaskedArray, ".filled(...)"), (np.matrix, "np.asarray")):
        if isinstance(value, kind):
            raise TypeError(
                f"{name} must be a plain array, got a {kind.__name__}: {remedy} makes it one")


def keys(name: str, value: Any, wanted: set[str]) -> None:
    """Refuse anything but a mapping with exactly these keys."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of arrays, got {described(value)}")
    if set(value) != wanted:
        raise ValueError(f"{name} must have the keys {sorted(wanted)}, got "
                         f"{sorted(value, key=str)}, which differ in "
                         f"{sorted(wanted ^ set(value), key=str)}")


def _shape(name: str, value: np.ndarray, shape: Sequence[int | str]) -> None:
    if type(value) is not np.ndarray:
        ordinary(name, value)
    if value.shape != shape and not _fits(value.shape, shape):
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        turned = value.ndim > 1 and _fits((*value.shape[:-2], *value.shape[:-3:-1]), shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {value.shape}"
                         + ": transposed" * turned)


def _fits(found: tuple[int, ...], shape: Sequence[int | str]) -> bool:
    return len(shape) == len(found) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, found))


def _first(value: np.ndarray, bad: np.ndarray) -> str:
    where = tuple(map(int, np.argwhere(bad)[0]))
    return f"{value[where]} at {where}"


def described(value: Any) -> str:
    """Describe a value for a message: itself and its class, or an array's dtype."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"{value!r:.60} ({type(value).__name__})"
