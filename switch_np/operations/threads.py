"""Several threads for work that falls into independent parts: NumPy's loops and products run apart.

Off unless the environment asks for it: SWITCH_NP_NUM_THREADS=2, together with one thread for the
BLAS, which would otherwise share out the same cores; the command line sets both. The parts never
depend on the number of threads, and each has places of its own; so no number does either.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cache
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import numpy as np

VARIABLE = "SWITCH_NP_NUM_THREADS"
SMALL = 2 ** 16    # elements
Result = TypeVar("Result")


@cache
def count() -> int:
    """Return the number of threads to use; 1 where the environment says nothing."""
    wanted = os.environ.get(VARIABLE, "1")
    if not (wanted.isascii() and wanted.isdigit() and int(wanted)):
        raise ValueError(f"{VARIABLE} must be a whole number of at least 1, got {wanted!r}")
    return int(wanted)


def alone(size: int) -> bool:
    """Whether so many elements are computed on the calling thread."""
    return size < SMALL or count() == 1


def each(work: Callable[..., Result], *columns: Iterable[Any], size: int) -> list[Result]:
    """Return what `work` gives for each part, in order, as `map` does; its calls may run at once.

    `size` is the number of elements that are computed in all; fewer than SMALL elements are
    computed on the calling thread, since two that take turns at the interpreter would lose more
    than they gain.

    After an error in a part no other is begun, and the error is raised here once all have come to
    rest. The caller's `np.errstate` holds in every thread.

    >>> each(pow, [2, 3, 4], [2, 2, 2], size=3)
    [4, 9, 16]
    """
    if alone(size):
        return [work(*part) for part in zip(*columns)]
    parts = list(zip(*columns))
    results: list[Any] = [None] * len(parts)
    remaining, settings = iter(enumerate(parts)), np.geterr()
    begun: list[SimpleQueue[BaseException | None]] = []

    def drain() -> BaseException | None:
        try:
            for place, part in remaining:
                results[place] = work(*part)
        except BaseException as error:
            deque(remaining, maxlen=0)           # leaves nothing to those that have not begun
            return error
        return None

    def help_out() -> None:
        ended: SimpleQueue[BaseException | None] = SimpleQueue()
        begun.append(ended)         # said before a part is taken; one that comes late finds none
        # To set the default anew would, in NumPy 1.26, undo the settings of other threads.
        with nullcontext() if np.geterr() == settings else np.errstate(**settings):
            error = drain()
        ended.put(error)

    for _ in range(min(count(), len(parts)) - 1):
        _helpers().put(help_out)
    ends = drain(), *(ended.get() for ended in begun.copy())
    errors = [error for error in ends if error is not None]
    for error, other in zip(errors, errors[1:]):
        error.__context__ = other                # only one can be raised; its traceback shows all
    if errors:
        raise errors[0]
    return results


def cut(start: int, stop: int, width: int, elements: int = 2 ** 17) -> list[slice]:
    """Cut rows of this width into parts of so many elements, or a row; at least one part.

    The last may be half as long again as the others, rather than have little to do.

    >>> cut(0, 5, 2 ** 16)
    [slice(0, 2, None), slice(2, 5, None)]
    """
    size = max(elements // max(width, 1), 1)
    if stop - start <= size + size // 2:
        return [slice(start, stop)]
    begins = range(start, stop - size // 2, size)
    return [slice(begin, end) for begin, end in zip(begins, [*begins[1:], stop])]


@cache
def _helpers() -> SimpleQueue[Callable[[], None]]:
    """Return where the threads beside the caller's own, started when first needed, get their work.

    A plain queue: with futures, as an executor has them, each call would take 0.1 ms longer.
    """
    jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def serve() -> None:
        while True:
            jobs.get()()

    for _ in range(count() - 1):
        Thread(target=serve, name="switch_np", daemon=True).start()
    return jobs


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)    # a child has none of the threads
