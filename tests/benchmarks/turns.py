"""Who is timed when: in turns, round by round; and what the rounds say.

A machine is never quiet, and its clock rises and falls. So the subjects take turns, each round
begins with another one, and what is claimed is the median over the rounds of a ratio within a
round. Between two turns nobody computes for a moment: the threads of a BLAS, of OpenMP and of XLA
spin for milliseconds after their work, and would take the next one's cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

PAUSE = 0.03         # seconds between two turns
TURN = 0.1           # seconds that a turn should last at least, so far as MOST calls give them
MOST = 40            # calls in a turn


class Ratio(NamedTuple):
    """The median over the rounds of a ratio within a round, and its quartiles."""

    median: float
    low: float
    high: float


def take(subjects: Mapping[str, Callable[[int], Mapping[str, list[float]]]], rounds: int,
         pause: float = PAUSE) -> dict[str, dict[str, np.ndarray]]:
    """Let every subject take its turn in every round.

    Parameters
    ----------
    subjects
        By name, a function that makes n calls and returns their seconds, in lists by part.
    rounds
        How often each has its turn, after one that is not counted.
    pause
        Seconds of quiet before each turn.

    Returns
    -------
    dict
        By name and part, the median of each round's calls (rounds,).

    Examples
    --------
    >>> found = take({"a": lambda n: {"": [2.0] * n}, "b": lambda n: {"": [3.0] * n}}, 5, pause=0)
    >>> ratio(found["b"][""], found["a"][""])
    Ratio(median=1.5, low=1.5, high=1.5)
    """
    names = list(subjects)
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    calls = {name: how_many(sum(min(part) for part in subjects[name](1).values()))
             for name in names}
    for count in range(rounds):
        turn = count % len(names)
        for name in names[turn:] + names[:turn]:
            time.sleep(pause)
            found = subjects[name](calls[name])
            seconds[name].append({part: float(np.median(mine)) for part, mine in found.items()})
    return {name: {part: np.array([one[part] for one in mine]) for part in mine[0]}
            for name, mine in seconds.items()}


def how_many(seconds: float) -> int:
    """Return how many calls of so many seconds make a turn.

    >>> how_many(0.08), how_many(3.0), how_many(1e-6)
    (1, 1, 40)
    """
    return int(np.clip(TURN / max(seconds, 1e-9), 1, MOST))


def ratio(mine: np.ndarray, base: np.ndarray) -> Ratio:
    """Return the ratio of two series (rounds,)."""
    low, median, high = np.quantile(mine / base, [0.25, 0.5, 0.75]).tolist()
    return Ratio(median, low, high)


def milliseconds(seconds: np.ndarray) -> float:
    """Return the median of a series in milliseconds.

    >>> milliseconds(np.array([0.001, 0.002, 0.009]))
    2.0
    """
    return 1000 * float(np.median(seconds))
