"""Start a worker for every case and subject, see that the peers compute the same, and take turns."""

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
    with contextlib.ExitStack() as stack:
        workers: dict[tuple[str, str], Process] = {}
        for case, sizes in cases.items():
            references: dict[str, dict[str, np.ndarray]] = {}
            for spec in specs:
                process = stack.enter_context(Process(spec.setting))
                try:
                    process.ask(make=spec.make, arguments=dict(sizes))
                    if spec.agrees:
                        notes[case, spec.key] = _agreement(process, spec, sizes, references)
                    process.ask(time=1)
                    workers[case, spec.key] = process
                except (WorkerError, Disagreement) as error:
                    notes[case, spec.key] = f"not measured: {' '.join(str(error).split()):.200}"
                    say(f"{case}, {spec.key}: {notes[case, spec.key]}")
                    process.close()
        found = turns.take({key: lambda n, process=process: process.ask(time=n)
                            for key, process in workers.items()}, rounds)
    return Found(found, notes)


def called(function: str, setting: str, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a function gives for each case, each in a process of its own."""
    found = {}
    for case, sizes in cases.items():
        with Process(setting) as process:
            found[case] = process.ask(call=function, arguments=dict(sizes))
    return found


def _agreement(process: Process, spec: Spec, sizes: Mapping[str, Any],
               references: dict[str, dict[str, np.ndarray]]) -> str:
    """Hold a peer's numbers against ours, which are computed once per case."""
    if spec.agrees not in references:
        with Process("one") as ours:
            ours.ask(make=spec.agrees, arguments=dict(sizes))
            references[spec.agrees] = _numbers(ours)
    error = agreement.check(_numbers(process), references[spec.agrees], spec.lacks)
    return f"same numbers to {error:.0e}"


def _numbers(process: Process) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.npz"
        process.ask(numbers=str(path))
        with np.load(path) as file:
            return dict(file)
