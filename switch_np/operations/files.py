"""Write files under a temporary name and rename them, so that none is half written; read JSON."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when it is complete; its folder is made.

    The contents are on disk before the file is renamed: if the machine stops, the older file is
    whole; if the program fails, no temporary file is left.

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


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; a ValueError names the file and its folder."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} must be a readable JSON file, got {error} "
                         f"in {path.parent}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got {type(values).__name__} in "
                         f"{path.parent}")
    return values


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, with its line ends as they are."""
    with replacing(path) as file:
        file.write(text.encode())
