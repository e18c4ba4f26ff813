"""In which process and when each subject is timed: in turns, round by round.

Each has a process of its own, since the number of threads must be known before NumPy is imported.
A machine is never quiet, and its clock rises and falls. So the subjects take turns, each round
begins with another one, and what is claimed is the median over the rounds of a ratio within a
round. Before each turn nobody computes for a moment: the threads of a BLAS, of OpenMP and of XLA
spin for milliseconds after their work, and would take the next one's cores.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.subjects import Subject, make
from switch_np.commands import environment

CORES = environment.cores()
# Threads of the BLAS or of another library, and threads of switch_np's own.
THREADS = {"ours": (1, CORES), "library": (CORES, 1), "one": (1, 1)}
PAUSE = 0.03         # seconds before each turn
WARM_UP = 0.02       # seconds of calls that are not timed, at the beginning of a turn
TURN = 0.1           # seconds that a turn should last at least, as far as MOST calls allow
MOST = 40            # calls in a turn

subjects: dict[str, Subject] = {}    # of this process, by the name of the size


def start(threads: str) -> ProcessPoolExecutor:
    """Start a process with so many threads, which runs what is submitted to it.

    >>> with start("one") as process:
    ...     process.submit(os.getenv, "OPENBLAS_NUM_THREADS").result()
    '1'
    """
    library, own = THREADS[threads]
    variables = {**dict.fromkeys(environment.THREADS, str(library)), **environment.MEMORY,
                 environment.OWN_THREADS: str(own)}
    process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with mock.patch.dict(os.environ, variables):
        process.submit(os.getpid).result()          # begins the process in this environment
    return process


def set_up(function: str, name: str, size: Any) -> dict[str, np.ndarray]:
    """Make a subject in this process; return what it computes."""
    subjects[name] = make(function, size)
    return subjects[name].results()


def seconds(name: str, calls: int) -> float:
    """Return the median seconds of a subject of this process."""
    def once() -> float:
        begin = time.perf_counter()
        subjects[name].run()
        return time.perf_counter() - begin

    return median(once, calls)


def median(once: Callable[[], Any], calls: int) -> Any:
    """Return the median of the seconds that some calls return, after others that warm up."""
    warm = time.perf_counter() + WARM_UP
    once()
    while time.perf_counter() < warm:
        once()
    return np.median([once() for _ in range(calls)], axis=0)


def take_turns(turns: Mapping[Any, Callable[[int], Any]], rounds: int) -> dict[Any, np.ndarray]:
    """Return the seconds of each subject in each round: (rounds,), or (rounds, P) for P parts.

    A turn is a function that makes n calls and returns their `median`. A first turn of each, of one
    call, is not counted.
    """
    names = list(turns)
    found: dict[Any, list[Any]] = {name: [] for name in names}
    once = {name: max(float(np.sum(turns[name](1))), 1e-9) for name in names}
    calls = {name: int(np.clip(TURN / once[name], 1, MOST)) for name in names}
    for count in range(rounds):
        first = count % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(PAUSE)
            found[name].append(turns[name](calls[name]))
    return {name: np.array(each) for name, each in found.items()}


def ratio(name: str, seconds: np.ndarray, base: np.ndarray) -> dict[str, float]:
    """Return the median of the ratios within a round under this name, and their quartiles."""
    low, median, high = np.quantile(seconds / base, [0.25, 0.5, 0.75])
    return {name: median, "low": low, "high": high}
