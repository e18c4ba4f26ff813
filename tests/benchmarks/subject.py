"""A subject: something that is timed, and what it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Subject(NamedTuple):
    """What a worker makes.

    Attributes
    ----------
    step
        Is timed. With `by_part` it returns the seconds of its parts itself.
    numbers
        Returns what must be the same for all: outputs and gradients by name. Called before `step`.
    by_part
        Whose seconds count.
    """

    step: Callable[[], Any]
    numbers: Callable[[], dict[str, np.ndarray]]
    by_part: bool = False


class Spec(NamedTuple):
    """What a parent asks of a worker.

    Attributes
    ----------
    name, setting
        What the table calls it, and how many threads it computes with.
    make
        `module:function` that makes it from a case's sizes.
    needs
        Modules without which it is left out.
    agrees
        `module:function` of ours that must compute the same numbers; "": it has none.
    lacks
        Numbers that ours has and it has not.
    """

    name: str
    make: str
    setting: str = "pool"
    needs: tuple[str, ...] = ()
    agrees: str = ""
    lacks: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name and setting in one.

        >>> Spec("ours", "benchmarks.ours:layer").key
        'ours, pool'
        """
        return f"{self.name}, {self.setting}"
