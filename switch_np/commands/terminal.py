"""The terminal of a command: its help, the line that moves, and the signals that ask to stop."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that adds an option's default, once, and only where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = isinstance(action.default, (bool, list, type(None)))
        said = none or "(default: " in (action.help or "")
        return action.help if said else super()._get_help_string(action)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGINT or SIGTERM has come.

    A signal only sets a flag, so that no step is left half done.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: came.append(number))
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Line:
    """The progress line: in place on a terminal, a new line every `apart` seconds elsewhere."""

    def __init__(self, apart: float) -> None:
        self.moving = sys.stdout.isatty()
        self.apart = 0.1 if self.moving else apart
        self.begun = self.shown = time.perf_counter()

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.perf_counter() - self.shown >= self.apart

    def write(self, text: str, stays: bool = False) -> None:
        """Write over the line, or below it where it `stays`."""
        self.shown = time.perf_counter()
        if self.moving:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + text[:width].ljust(width), end="\n" if stays else "", flush=True)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """End the moving line."""
        if self.moving:
            print(flush=True)
