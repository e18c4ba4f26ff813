"""Write a file beside its name and rename it, so that it is never half there.

What was written is on the disk before the name is its own: a machine that stops in between leaves
the older file whole. A program that fails in between leaves nothing beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` at the end; its folder is made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "new" / "a.txt"
    ...     with replacing(path) as file:
    ...         _ = file.write(b"whole")
    ...     path.read_text(), [each.name for each in path.parent.iterdir()]
    ('whole', ['a.txt'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a file of text, UTF-8 with its line ends as they are."""
    with replacing(path) as file:
        file.write(text.encode())
