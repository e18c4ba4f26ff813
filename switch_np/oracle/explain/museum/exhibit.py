"""What a exhibit of the museum is: a bug, where it was seen, and the lines that it changes."""

from __future__ import annotations

from typing import NamedTuple


class Exhibit(NamedTuple):
    """One bug.

    Attributes
    ----------
    name
        A handle.
    what
        What is wrong, in a sentence; the diagnosis says it.
    seen
        The library and the thread, as far as known.
    changes
        Pairs (right, wrong) of text in `kernel.py`; the first part stands there just once.
    """

    name: str
    what: str
    seen: str
    changes: tuple[tuple[str, str], ...]
