"""Checks of arguments; a message names the argument, what came, and what is wanted."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def integer(name: str, value: Any, at_least: int) -> None:
    """Refuse anything but a whole number of at least `at_least`; a bool is not a number.

    >>> integer("top_k", 0, 1)
    Traceback (most recent call last):
    ValueError: top_k must be at least 1, got 0
    """
    if not isinstance(value, Integral) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number, got {_kind(value)}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")


def number(name: str, value: Any, low: float = -math.inf, below: float = math.inf) -> None:
    """Refuse anything but a finite real number with low <= value < below.

    >>> number("jitter", 1.5, 0, 1)
    Traceback (most recent call last):
    ValueError: jitter must be finite, at least 0 and below 1, got 1.5
    """
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a number, got {_kind(value)}")
    # typeshed's Real has no order; float() would overflow for a huge int.
    if not (low <= value < below and math.isfinite(value)):  # type: ignore[operator]
        bounds = ["finite"] + [f"at least {low:g}"] * (low > -math.inf)
        wanted = ", ".join(bounds) + (f" and below {below:g}" if below < math.inf else "")
        raise ValueError(f"{name} must be {wanted}, got {value}")


def flag(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {_kind(value)}")


def plain(config: Any) -> None:
    """Replace the NumPy scalars of a frozen dataclass by Python's own numbers, in place.

    NumPy's would lift float32 to float64, and JSON takes none but np.float64.

    >>> settings = type("Settings", (), {})()
    >>> settings.rate, settings.steps = np.float64(0.5), np.int64(3)
    >>> plain(settings)
    >>> settings.rate, settings.steps
    (0.5, 3)
    """
    kinds: list[tuple[type, type]] = [
        (bool, bool), (np.bool_, bool), (Integral, int), (Real, float)]
    for name, value in vars(config).items():
        for kind, python in kinds:
            if isinstance(value, kind):
                object.__setattr__(config, name, python(value))
                break


def choice(name: str, value: Any, options: Sequence[Any]) -> None:
    """Refuse anything but one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")


def nearest(value: Any, options: Iterable[str]) -> str:
    """Return the end of a message that names the option spelt most like `value`, if any.

    >>> nearest("top", ["top_k", "groups"]), nearest("x", ["top_k", "groups"])
    ("; did you mean 'top_k'?", '')
    """
    found = difflib.get_close_matches(str(value), options, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def precision(name: str, value: Any) -> None:
    """Refuse any dtype but float32 and float64."""
    try:
        fits = np.dtype(value) in (np.float32, np.float64)
    except TypeError:
        fits = False
    if not fits:
        raise TypeError(f"{name} must be float32 or float64, got {value!r}")


def instance(name: str, value: Any, *kinds: type) -> None:
    """Refuse anything but an instance of one of the classes."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be a {wanted}, got {_kind(value)}")


def floats(name: str, value: Any, shape: Sequence[int | str], *, like: np.ndarray | None = None,
           finite: bool = False) -> None:
    """Refuse anything but a floating-point (or complex) array of this shape.

    Parameters
    ----------
    shape
        An int demands that length, a letter leaves it open.
    like
        An array, itself checked, whose precision `value` must share: float32 goes with float32,
        float64 with float64 and complex128. A mixture would silently lift one to the other.
    finite
        Refuse NaN and infinity too.

    Examples
    --------
    >>> floats("x", np.zeros((3, 4)), ("T", 5))
    Traceback (most recent call last):
    ValueError: x must have shape (T, 5), got (3, 4)
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {_kind(value)}")
    ordinary(name, value)
    if value.dtype.kind not in "fc" or value.real.dtype.itemsize < 4:
        raise TypeError(f"{name} must hold float32 or float64 numbers, got {value.dtype}")
    _shape(name, value, shape)
    if like is not None and value.real.dtype != like.real.dtype:
        raise TypeError(f"{name} must be {like.real.dtype} like the rest, got {value.dtype}")
    # The quick test, the sum of squares, also fails where a number is merely large.
    if finite and not (np.isfinite(np.vdot(value, value)) or np.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, got {_first(value, ~np.isfinite(value))}")


def integers(name: str, value: Any, shape: Sequence[int | str], low: float,
             below: float) -> None:
    """Refuse anything but whole numbers in an array of this shape, with low <= value < below."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a NumPy array of whole numbers, got {_kind(value)}")
    ordinary(name, value)
    _shape(name, value, shape)
    bad = (value < low) | (value >= below)
    if bad.any():
        raise ValueError(f"{name} must lie in {low} .. {below - 1}, got {_first(value, bad)}")


def booleans(name: str, value: Any, shape: Sequence[int | str]) -> None:
    """Refuse anything but an array of bool of this shape."""
    if not isinstance(value, np.ndarray) or value.dtype != bool:
        raise TypeError(f"{name} must be a NumPy array of bool, got {_kind(value)}")
    ordinary(name, value)
    _shape(name, value, shape)


def ordinary(name: str, value: Any) -> None:
    """Refuse masked arrays, whose mask would be lost, and np.matrix, whose * is a matrix product.

    >>> ordinary("x", np.ma.array([1.0], mask=[True]))
    Traceback (most recent call last):
    TypeError: x must be a plain array, got a MaskedArray: .filled(...) makes it one
    """
    if type(value) is np.ndarray:
        return
    for kind, remedy in ((np.ma.MaskedArray, ".filled(...)"), (np.matrix, "np.asarray")):
        if isinstance(value, kind):
            raise TypeError(f"{name} must be a plain array, got a {kind.__name__}: {remedy} makes "
                            "it one")


def keys(name: str, value: Any, wanted: set[str]) -> None:
    """Refuse anything but a mapping with exactly these keys."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of arrays, got {_kind(value)}")
    if set(value) != wanted:
        raise ValueError(f"{name} must have the keys {sorted(wanted)}, got "
                         f"{sorted(value, key=str)}")


def _shape(name: str, value: np.ndarray, shape: Sequence[int | str]) -> None:
    fits = value.shape == shape or (len(shape) == value.ndim and all(
        isinstance(want, str) or want == have for want, have in zip(shape, value.shape)))
    if not fits:
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} must have shape ({wanted}), got {value.shape}")


def _first(value: np.ndarray, bad: np.ndarray) -> str:
    """Say which is the first bad entry, and where."""
    where = tuple(map(int, np.argwhere(bad)[0]))
    return f"{value[where]} at {where}"


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"{value!r:.60} ({type(value).__name__})"
