"""A process of its own for one subject: on stdin a line of JSON says what to do, stdout answers.

    {"make": "benchmarks.ours:layer", "case": "small", "arguments": {...}}   make it for a case
    {"time": 3, "case": "small"}   call it untimed, then three times; seconds of the three, by part
    {"numbers": "file.npz", "case": "small"}   write what it computes
    {"call": "benchmarks.memory:layer", "arguments": {...}}   call a function; what it returns

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

WARM = 0.02    # seconds


class Worker:
    """Does what it is told, with what it was told to make."""

    def __init__(self) -> None:
        self.made: dict[str, Subject] = {}

    def answer(self, command: Mapping[str, Any]) -> Any:
        """Obey one command.

        >>> worker = Worker()
        >>> worker.answer({"make": "benchmarks.worker:idle", "case": "a", "arguments": {}})
        >>> found = worker.answer({"time": 2, "case": "a"})
        >>> list(found), len(found[""])
        ([''], 2)
        """
        if "make" in command:
            self.made[command["case"]] = function(command["make"])(**command["arguments"])
            return None
        if "call" in command:
            return function(command["call"])(**command["arguments"])
        subject = self.made[command["case"]]
        if "numbers" in command:
            np.savez(command["numbers"], **subject.numbers())
            return None
        return timed(subject, command["time"])


def timed(subject: Subject, calls: int) -> dict[str, list[float]]:
    """Call untimed for a while, since the cores and caches were others', then `calls` times."""
    seconds: dict[str, list[float]] = {}
    warm = time.perf_counter() + WARM
    subject.step()
    while time.perf_counter() < warm:
        subject.step()
    for _ in range(calls):
        begin = time.perf_counter()
        parts = subject.step()
        spent = time.perf_counter() - begin
        for part, mine in (parts if subject.by_part else {"": spent}).items():
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
