"""Checks that a signature implies: every argument must be of the kind that its annotation names.

`check` is for values: a decorated call need not check again what is an array, a number or a config.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from types import NoneType
from typing import Any, TypeVar

import numpy as np

from switch_np.operations import check

Call = TypeVar("Call", bound=Callable[..., Any])
WORDS = {np.ndarray: "a NumPy array", int: "a whole number", float: "a number", str: "a string",
         bool: "True or False", np.random.Generator: "a Generator",
         Mapping: "a dict"}


def checked(call: Call) -> Call:
    """Decorate a call: refuse arguments of the wrong kind, by name.

    >>> @checked
    ... def half(number: float, digits: int | None = None) -> float:
    ...     return number / 2
    >>> half(3), half(number="three")
    Traceback (most recent call last):
    TypeError: number must be a number, got 'three' (str)
    """
    names = tuple(inspect.signature(call).parameters)

    @wraps(call)
    def checking(*args: Any, **options: Any) -> Any:
        kinds_of = _kinds(call)
        for name, value in (*zip(names, args), *options.items()):
            kinds = kinds_of.get(name, ())
            if kinds and type(value) not in kinds and not any(_is_a(value, kind) for kind in kinds):
                wanted = " or ".join(_words(kind) for kind in kinds if kind is not NoneType)
                raise TypeError(f"{name} must be {wanted}, got {check.described(value)}")
        return call(*args, **options)

    return typing.cast(Call, checking)


@cache
def _kinds(call: Callable[..., Any]) -> dict[str, tuple[type, ...]]:
    """Return the classes that each argument may have; an argument that may be anything has none."""
    hints, kinds = typing.get_type_hints(call), {}
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        hint = hints.get(name, Any)
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        members = typing.get_args(hint) if union else (hint,)
        found = tuple(typing.get_origin(member) or member for member in members)
        # Almost anything may name a dtype.
        told = all(map(inspect.isclass, found)) and not {Any, np.dtype} & set(found)
        kinds[name] = found if told else ()
    return kinds


def _is_a(value: Any, kind: type) -> bool:
    if kind in (int, float):
        number = isinstance(value, Integral if kind is int else Real)
        return number and not isinstance(value, bool | np.bool_)
    also = {bool: np.bool_, Sequence: np.ndarray}.get(kind, kind)        # an array is read in order
    return isinstance(value, (kind, also))


def _words(kind: type) -> str:
    return WORDS.get(kind) or f"a {kind.__name__}"
