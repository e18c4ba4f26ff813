"""Write files whole or not at all, and claim folders."""

import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOCK = ".lock"      # stays in a claimed folder; the system knows whether anyone holds it


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
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)           # as when the disk is full
        raise


def final_name(path: Path) -> str:
    """Return the name that a file of `replacing` gets once it is whole, or a file's own.

    >>> final_name(Path("config.json.17.new")), final_name(Path("config.json"))
    ('config.json', 'config.json')
    """
    return re.sub(r"(\.\d+)?\.new$", "", path.name)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made, for this process only; a ValueError says who else holds it.

    The system releases it when the process ends, however that happens.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as made, claimed(Path(made)), claimed(Path(made)):
    ...     pass        # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... must not be in use, got one held by process ... since ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+b") as file:
        if not _lock(file):
            time.sleep(0.1)                      # its holder may be about to write its name
            file.seek(0)
            holder = file.read().decode(errors="replace") or "another process"
            raise ValueError(f"{folder} must not be in use, got one held by {holder}")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {time.ctime()}".encode())
        file.flush()
        yield


def _lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed; return False if another holds the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(2 ** 30)               # a lock there leaves the holder's name readable
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except (ImportError, OSError):
        pass                                 # this system, or file system, has no locks
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, with its line ends as they are."""
    with replacing(path) as file:
        file.write(text.encode())
