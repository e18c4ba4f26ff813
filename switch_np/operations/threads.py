"""Independent calls on several threads: NumPy's loops and products release the interpreter.

Off unless the environment variable SWITCH_NP_NUM_THREADS is above 1. The BLAS should then have one
thread, since its own would compete for the cores; the command line sets both. Where no thread can
start, as in a browser, all work stays on the calling thread.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from functools import cache
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import numpy as np

from switch_np.operations.environment import OWN_THREADS

SMALL = 2 ** 17    # with fewer elements threads cost more than they gain
Result = TypeVar("Result")


@cache
def count() -> int:
    """Return the number of threads to use; 1 unless the environment says otherwise."""
    wanted = os.environ.get(OWN_THREADS, "1")
    if not (wanted.isascii() and wanted.isdigit() and int(wanted)):
        raise ValueError(f"{OWN_THREADS} must be a whole number of at least 1, got {wanted!r}")
    return int(wanted)


def alone(size: int) -> bool:
    """Whether work on so many elements stays on the calling thread."""
    return size < SMALL or count() == 1


def each(work: Callable[..., Result], *columns: Iterable[Any], size: int) -> list[Result]:
    """Return work(*arguments) for each row of the columns, in order, as `map` does.

    The calls may run at once if `size`, the number of elements computed in all, is large enough;
    each must write to memory of its own. After an error no further call begins, and the error is
    raised here once all threads are done. The caller's `np.errstate` holds in every thread.

    >>> each(pow, [2, 3, 4], [2, 2, 2], size=3)
    [4, 9, 16]
    """
    if alone(size) or not (helpers := _helpers()):
        return [work(*arguments) for arguments in zip(*columns)]
    calls = list(zip(*columns))
    results: list[Any] = [None] * len(calls)
    remaining, settings = iter(enumerate(calls)), np.geterr()
    begun: list[SimpleQueue[BaseException | None]] = []

    def drain() -> BaseException | None:
        try:
            for i, arguments in remaining:
                results[i] = work(*arguments)
        except BaseException as error:
            deque(remaining, maxlen=0)           # leaves nothing to threads that have not begun
            return error
        return None

    def help_out() -> None:
        ended: SimpleQueue[BaseException | None] = SimpleQueue()
        begun.append(ended)         # before taking a call: nobody awaits helpers that come too late
        # Setting what is set already would, in NumPy 1.26, undo the settings of other threads.
        with nullcontext() if np.geterr() == settings else np.errstate(**settings):
            error = drain()
        ended.put(error)

    for _ in range(min(count(), len(calls)) - 1):
        helpers.put(help_out)
    ends = drain(), *(ended.get() for ended in begun.copy())
    errors = [error for error in ends if error is not None]
    for error, other in zip(errors, errors[1:]):
        error.__context__ = other                # only one can be raised; its traceback shows all
    if errors:
        raise errors[0]
    return results


def cut(start: int, stop: int, width: int, elements: int = 2 ** 17) -> list[slice]:
    """Cut rows of this width into slices of about `size` elements, at least one row each.

    The last may be half as long again as the others, so that none is short.

    >>> cut(0, 5, 2 ** 16)
    [slice(0, 2, None), slice(2, 5, None)]
    """
    size = max(elements // max(width, 1), 1)
    if stop - start <= size + size // 2:
        return [slice(start, stop)]
    begins = range(start, stop - size // 2, size)
    return [slice(begin, end) for begin, end in zip(begins, [*begins[1:], stop])]


@cache
def _helpers() -> SimpleQueue[Callable[[], None]] | None:
    """Return the queue of the helper threads, None if none can start.

    An executor would add 0.1 ms to each call.
    """
    jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def serve() -> None:
        while True:
            jobs.get()()

    threads = [Thread(target=serve, name="switch_np", daemon=True) for _ in range(count() - 1)]
    with suppress(RuntimeError):                 # "can't start new thread": then fewer, or none
        for thread in threads:
            thread.start()
    return jobs if threads[0].is_alive() else None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)    # threads do not survive a fork
