"""Start a worker for every subject, see that the peers compute the same, and take turns."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import agreement, turns
from benchmarks.agreement import Disagreement
from benchmarks.process import Process, WorkerError
from benchmarks.subject import Spec

Say = Callable[[str], None]


class Found(NamedTuple):
    """What came out, by (case, subject's key).

    Attributes
    ----------
    seconds
        By part ("" where there is but one), the medians of the rounds (rounds,).
    notes
        Why there are none; or, for a peer, how far its numbers were from ours.
    """

    seconds: dict[tuple[str, str], dict[str, np.ndarray]]
    notes: dict[tuple[str, str], str]

    def of(self, case: str, spec: Spec) -> np.ndarray:
        """Return the seconds of a subject of one part."""
        return self.seconds[case, spec.key][""]


def timed(cases: Mapping[str, Mapping[str, Any]], specs: Sequence[Spec], rounds: int,
          say: Say = print) -> Found:
    """Time every subject on every case, all in the same rounds.

    Parameters
    ----------
    cases
        The sizes of each, by name.
    specs
        The subjects.
    rounds
        How often each takes its turn.
    say
        Is told what could not be measured.
    """
    notes: dict[tuple[str, str], str] = {}
    ready: dict[tuple[str, str], Process] = {}
    with contextlib.ExitStack() as stack:
        ours = References(cases)
        for spec in specs:
            process = stack.enter_context(Process(spec.setting))
            for case, sizes in cases.items():
                key = case, spec.key
                try:
                    process.ask(make=spec.make, case=case, arguments=dict(sizes))
                    if spec.agrees:
                        error = agreement.check(numbers(process, case),
                                                ours.numbers(spec.agrees, case), spec.lacks)
                        notes[key] = f"same numbers to {error:.0e}"
                    process.ask(time=1, case=case)
                    ready[key] = process
                except (WorkerError, Disagreement) as error:
                    notes[key] = f"not measured: {' '.join(str(error).split()):.200}"
                    say(f"{case}, {spec.key}: {notes[key]}")
        found = turns.take({
            key: lambda n, process=process, case=key[0]: process.ask(time=n, case=case)
            for key, process in ready.items()}, rounds)
    return Found(found, notes)


class References:
    """What ours computes for each case, each computed once and kept until the peers agree."""

    def __init__(self, cases: Mapping[str, Mapping[str, Any]]) -> None:
        self.cases = cases
        self.found: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def numbers(self, make: str, case: str) -> dict[str, np.ndarray]:
        """Return outputs and gradients by name."""
        if (make, case) not in self.found:
            with Process("one") as process:
                process.ask(make=make, case=case, arguments=dict(self.cases[case]))
                self.found[make, case] = numbers(process, case)
        return self.found[make, case]


def numbers(process: Process, case: str) -> dict[str, np.ndarray]:
    """Return what a worker's subject computes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.npz"
        process.ask(numbers=str(path), case=case)
        with np.load(path) as file:
            return dict(file)


def called(function: str, setting: str, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a function gives for each case, each in a process of its own."""
    found = {}
    for case, sizes in cases.items():
        with Process(setting) as process:
            found[case] = process.ask(call=function, arguments=dict(sizes))
    return found
