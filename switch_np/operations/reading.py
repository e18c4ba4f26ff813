"""Read files that may be broken: errors name file and entry, and no header can claim memory.

For a broken file numpy, zipfile and json may raise almost anything (TokenError, RuntimeError,
NotImplementedError, OverflowError, RecursionError, MemoryError ...), so everything is caught here,
and nowhere else.
"""

import hashlib
import io
import json
import math
import os
import textwrap
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

JSON_BYTES = 2 * 2 ** 20       # parsed, it may take thirty times as much
UNPACKED = 24 * 2 ** 20        # arrays may exceed a compressed file by this much
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0,
           (2, 0): np.lib.format.read_array_header_2_0}


@contextmanager
def naming(name: str | Path, wanted: str) -> Iterator[None]:
    """Turn whatever a file, or an entry of one, makes its reader raise into a ValueError.

    >>> with naming("a.json", "a JSON file"):
    ...     json.loads("[")
    Traceback (most recent call last):
    ValueError: a.json must be a JSON file, got another or a broken one: Expecting value: line 1 \
column 2 (char 1)
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"{name} must be a readable file, got {error.strerror or error}"
                         ) from error
    except Exception as error:
        kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
        raise ValueError(f"{name} must be {wanted}, got another or a broken one: {kind}"
                         + textwrap.shorten(str(error), 2000)) from error


def json_object(text: str | bytes) -> dict[str, Any]:
    """Return the object that a JSON text holds; no key may come twice."""
    if len(text) > JSON_BYTES:
        raise ValueError(f"JSON must have at most {JSON_BYTES} bytes, got {len(text)}")
    values = json.loads(text, object_pairs_hook=_once)
    if not isinstance(values, dict):
        raise ValueError(f"JSON must hold an object, got {type(values).__name__}")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"JSON must name each key once, got {[key for key, _ in pairs]}")
    return values


def json_file(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    with naming(path, "a JSON file"), open(path, "rb") as file:
        return json_object(file.read(JSON_BYTES + 1))


def npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file, compressed or not."""
    with naming(path, "an npz file"), open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        size, claimed = os.fstat(file.fileno()).st_size, sum(each.file_size for each in entries)
        if claimed > size + UNPACKED:
            raise ValueError(f"{claimed} bytes of arrays in a file of {size}: if it is compressed, "
                             "write it with np.savez")
        arrays: dict[str, np.ndarray] = {}
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            with naming(name, "an array as np.savez writes it"):
                arrays[name] = _array(archive, entry)
        if len(arrays) < len(entries):
            raise ValueError(f"two entries of one name among {', '.join(arrays)}")
    return arrays


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Return one array; only its own bytes decide how much is read and allocated."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"compression {entry.compress_type}")
    with archive.open(entry) as file:
        data = file.read(entry.file_size)           # no more, even if the entry claims too little
    stream = io.BytesIO(data)
    shape, in_columns, dtype = HEADERS[np.lib.format.read_magic(stream)](stream)
    body = memoryview(data)[stream.tell():]
    if dtype.kind not in "biufU" or math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{len(body)} bytes for {dtype} numbers of shape {shape}")
    array = np.frombuffer(body, dtype).reshape(shape, order="F" if in_columns else "C")
    return np.array(array, dtype.newbyteorder("="), order="C")


def fingerprint(text: str | bytes) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def fingerprint_of(arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> str:
    """Return the SHA-256 of a file's arrays and texts, without any fingerprint among these."""
    told = sorted((name, text) for name, text in about.items() if name != "sha256")
    whole = hashlib.sha256(json.dumps(told).encode())
    for name, array in sorted(arrays.items()):
        kind = array.dtype.str.replace("b1", "u1")              # as safetensors files hold bool
        whole.update(f"{name} {kind} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
