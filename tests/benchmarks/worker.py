"""A process of its own for one subject: on stdin a line of JSON says what to do, stdout answers.

    {"make": "benchmarks.ours:layer", "arguments": {...}}   make the subject
    {"time": 3}                 call it once, then three times; the seconds of the three, by part
    {"numbers": "file.npz"}     write what it computes
    {"call": "benchmarks.memory:layer", "arguments": {...}}   call a function, and say what it gives

Whatever goes wrong is answered, too: {"error": "..."}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.subject import Subject


class Worker:
    """Does what it is told, with the subject that it was told to make."""

    def __init__(self) -> None:
        self.subject: Subject | None = None

    def answer(self, command: Mapping[str, Any]) -> Any:
        """Obey one command.

        >>> worker = Worker()
        >>> worker.answer({"make": "benchmarks.worker:idle", "arguments": {}})
        >>> sorted(worker.answer({"time": 2})), len(worker.answer({"time": 2})[""])
        ([''], 2)
        """
        if "make" in command:
            self.subject = function(command["make"])(**command["arguments"])
            return None
        if "call" in command:
            return function(command["call"])(**command["arguments"])
        if "numbers" in command:
            np.savez(command["numbers"], **self.subject.numbers())
            return None
        return self._time(command["time"])

    def _time(self, calls: int) -> dict[str, list[float]]:
        """Call once untimed, since the cores and caches were others', then `calls` times."""
        step, seconds = self.subject.step, {}
        step()
        for _ in range(calls):
            begin = time.perf_counter()
            parts = step()
            spent = time.perf_counter() - begin
            for part, mine in (parts if self.subject.by_part else {"": spent}).items():
                seconds.setdefault(part, []).append(mine)
        return seconds


def idle() -> Subject:
    """Return a subject that does nothing."""
    return Subject(lambda: None, dict)


def function(path: str) -> Any:
    """Return what `module:name` names."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def main() -> None:
    """Answer until stdin ends. Libraries that print to stdout print to stderr instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        try:
            found = {"found": worker.answer(json.loads(line))}
        except Exception as error:           # the parent says it, and goes on without this one
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
