"""The layer or the training step: each subject against the bare products, and against ours."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from typing import Any

import numpy as np

from benchmarks import subjects, timing
from benchmarks.subjects import BARE, LEAST, OURS, TEXT, Entry

TOLERANCE = 1e-4         # of an array's largest number


def compared(sizes: Mapping[str, Any], entries: Sequence[Entry], rounds: int
             ) -> list[dict[str, Any]]:
    """Time every entry at every size, all in the same rounds; return a row of each.

    `to bare`, with quartiles, is the ratio to the bare products with the same threads (with our own
    threads, for a peer on all cores); `to ours` likewise, above 1 where ours is faster. `note` says
    that it computes the same as ours, or why it was not timed.
    """
    notes, timed = {}, {}
    reference = cache(lambda function, size: subjects.make(function, size).results())
    with ExitStack() as stack:
        for entry in entries:
            process = stack.enter_context(timing.start(entry.threads))
            for name, size in sizes.items():
                try:
                    found = process.submit(timing.set_up, entry.function, name, size).result()
                    if entry.same_as:
                        check(found, reference(entry.same_as, size), entry.lacks)
                        notes[name, entry] = "same numbers as ours"
                    timed[name, entry] = lambda calls, process=process, name=name: (
                        process.submit(timing.seconds, name, calls).result())
                except Exception as error:      # whatever a library raises, the others are timed
                    if not entry.same_as:
                        raise
                    notes[name, entry] = f"not timed: {' '.join(str(error).split()):.200}"
        seconds = timing.take_turns(timed, rounds)
    return [{"size": name, "subject": entry.name, "threads": entry.threads,
             **against(name, entry, seconds), "note": notes.get((name, entry), "")}
            for name in sizes for entry in entries]


def against(name: str, entry: Entry, seconds: Mapping[tuple[str, Entry], np.ndarray]
            ) -> dict[str, float]:
    """Return the numbers of an entry's row; none where it was not timed."""
    if (name, entry) not in seconds:
        return {}
    own = entry.name in (BARE, OURS, LEAST) or entry.threads == "one"
    threads = entry.threads if own else "ours"
    bases = {base.name: time for (size, base), time in seconds.items()
             if size == name and base.threads == threads}
    mine = seconds[name, entry]
    to_bare = timing.ratio("to bare", mine, bases[BARE]) if BARE in bases else {}
    ours = bases.get(OURS, seconds.get((name, TEXT[0])))
    return {"ms": 1000 * np.median(mine), **to_bare, "to ours": np.median(mine / ours)}


def check(theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray],
          lacks: Sequence[str]) -> None:
    """Raise where an array of ours is missing, but for `lacks`, or differs."""
    for name in set(ours) - set(lacks):
        largest = np.abs(ours[name]).max()
        np.testing.assert_allclose(theirs[name], ours[name], 0, TOLERANCE * largest, err_msg=name)
