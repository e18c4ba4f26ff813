"""An exhibit of the museum: a bug, where it was seen, and the lines of the kernel it changes."""

from typing import NamedTuple


class Exhibit(NamedTuple):
    """One bug.

    Attributes
    ----------
    name
        A short name, without spaces.
    what
        What is wrong, in a sentence; reports print it.
    seen
        The library and the thread, as far as known.
    changes
        Pairs (right, wrong) of text; `kernel.py` has the right one exactly once.
    """

    name: str
    what: str
    seen: str
    changes: tuple[tuple[str, str], ...]
