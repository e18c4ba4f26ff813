"""The parent's end of a worker: start it in its setting, ask it, and end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks import settings

TESTS = Path(__file__).parents[1]


class WorkerError(Exception):
    """A worker could not do what it was asked."""


class Process:
    """A worker, from the start of the `with` to its end.

    >>> with Process("one") as process:
    ...     process.ask(make="benchmarks.worker:idle", case="any", arguments={})
    ...     len(process.ask(time=3, case="any")[""])
    3
    """

    def __init__(self, setting: str) -> None:
        path = os.pathsep.join([str(TESTS), str(TESTS.parent),
                                *filter(None, [os.environ.get("PYTHONPATH")])])
        self._said = tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.worker"], text=True,
            encoding="utf-8", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            env={**os.environ, **settings.variables(setting), "PYTHONPATH": path})

    def ask(self, **command: Any) -> Any:
        """Send one command, and return what it found."""
        try:
            self._child.stdin.write(json.dumps(command) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"ended with status {self._child.wait()}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["found"]

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        return " ".join(lines[-4:]).strip()

    def close(self) -> None:
        """Let it end, or end it."""
        self._child.stdin.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()
        self._said.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
