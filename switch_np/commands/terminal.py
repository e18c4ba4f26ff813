"""What commands share at the terminal: the progress line, and signals that ask to stop."""

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from switch_np.operations import files

HANGUP = getattr(signal, "SIGHUP", None)     # Windows has none


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop."""


class Signals:
    """What SIGINT, SIGTERM and SIGHUP do to a command: the first raises Stopped.

    Within `whole()` it waits for the end. A second one raises KeyboardInterrupt, there too.
    """

    def __init__(self) -> None:
        self._asked = self._waits = False

    def asked(self) -> bool:
        """Return whether a signal has come."""
        return self._asked

    def hold(self) -> None:
        """Let the first signal wait until someone asks whether one has come."""
        self._waits = True

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Let the first signal wait for the end of the block."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self._asked:
            raise Stopped

    @contextmanager
    def through_c(self) -> Iterator[None]:
        """Raise Stopped again where a library's C code turned it into another error."""
        try:
            yield
        except Exception as error:
            if self._asked:
                raise Stopped from error
            raise

    def receive(self, number: int, frame: object) -> None:
        """Raise what the signal calls for, if anything."""
        if self._asked:
            if number != HANGUP:             # the terminal and the shell both send it
                raise KeyboardInterrupt
        else:
            self._asked = True
            if not self._waits:
                raise Stopped


@contextmanager
def signals() -> Iterator[Signals]:
    """Receive the signals that ask to stop; afterwards they do what they did before."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if HANGUP and signal.getsignal(HANGUP) is not signal.SIG_IGN:        # as under nohup
        numbers.append(HANGUP)
    received = Signals()
    before = {number: signal.signal(number, received.receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Line:
    """The progress line: updated in place on a terminal, else a new line every `apart` seconds."""

    def __init__(self, apart: float) -> None:
        self.moving = sys.stdout.isatty()
        self.apart = 0.1 if self.moving else apart
        self.begun = self.shown = time.perf_counter()

    def due(self) -> bool:
        """Return whether it is time to write again."""
        return time.perf_counter() - self.shown >= self.apart

    def write(self, text: str, stays: bool = False) -> None:
        """Replace the line on a terminal, where the next one replaces it unless it `stays`."""
        self.shown = time.perf_counter()
        if self.moving:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + text[:width].ljust(width), end="\n" if stays else "", flush=True)
        else:
            print(text, flush=True)

    def time_left(self, done: int, left: int) -> str:
        """Return how long the steps left will take at the rate of those done, as "1:05 left"."""
        seconds = int((time.perf_counter() - self.begun) * left / done)
        return f"{seconds // 60}:{seconds % 60:02} left"

    def close(self) -> None:
        """End the line on a terminal."""
        if self.moving:
            print(flush=True)


def contents(folder: Path) -> str:
    """Return the sentence that tells which files a folder holds."""
    names = sorted(path.name for path in folder.iterdir()
                   if path.is_file() and path.name != files.LOCK)
    return f"{folder}/ holds {', '.join(names)}"
