"""What commands share at the terminal: the progress line, and signals that ask to stop."""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT or SIGTERM has arrived; no step is cut short."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: received.append(number))
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
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
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return f"{folder}/ holds {', '.join(names)}"
