"""safetensors files, written and read in a few lines: eight bytes, a JSON header, the numbers.

Source: the format's own description. The first eight bytes hold the header's length, little-endian;
the header names dtype, shape and byte range of each tensor; the tensors follow, row by row. Test
vectors use only F64, I64 and U8: every language has them, and nothing is rounded.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.operations import reading

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "U8": np.dtype("u1"), "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"), "I32": np.dtype("<i4"), "BOOL": np.dtype("u1")}
WRITTEN = ("F64", "I64", "U8")


def write(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write float64, int64 and uint8 (or bool) arrays, with a dict of strings about them."""
    path.write_bytes(encode(arrays, about))


def encode(arrays: Mapping[str, np.ndarray], about: Mapping[str, str],
           kinds: Sequence[str] = WRITTEN) -> bytes:
    """Return the bytes of a file of such arrays, with a dict of strings about them."""
    header: dict[str, object] = {"__metadata__": dict(about)}
    parts, offset = [], 0
    for name, array in arrays.items():
        array = array.view(np.uint8) if array.dtype == bool else array
        kind = next((key for key in kinds if DTYPES[key] == array.dtype), None)
        if kind is None:
            wanted = ", ".join(str(DTYPES[key]) for key in kinds)
            raise TypeError(f"{name} must be one of {wanted}, got {array.dtype}")
        data = np.ascontiguousarray(array, DTYPES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape),
                        "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays, and the strings about them.

    bfloat16, which kernels write, is read as float32.
    """
    with reading.naming(path, "a safetensors file"), open(path, "rb") as file:
        data = memoryview(file.read(os.fstat(file.fileno()).st_size))
        begin = 8 + int.from_bytes(data[:8], "little")
        if len(data) < begin:
            raise ValueError(f"{len(data)} bytes, where header and tensors begin at {begin}")
        header = reading.json_object(bytes(data[8:begin]))
        about = dict(header.pop("__metadata__", {}))
        arrays, end = {}, 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            with reading.naming(name, "a tensor as the format has it"):
                arrays[name], end = _tensor(entry, data[begin:], end)
        if end != len(data) - begin:
            raise ValueError(f"{len(data) - begin - end} bytes after the last tensor")
    return {name: arrays[name] for name in header}, about


def _tensor(entry: Mapping[str, Any], data: memoryview, last: int) -> tuple[np.ndarray, int]:
    """Return the array that an entry of the header describes, and where it ends."""
    (begin, end), shape, half = entry["data_offsets"], entry["shape"], entry["dtype"] == "BF16"
    if not half and entry["dtype"] not in DTYPES:
        raise ValueError(f"dtype must be in {sorted(DTYPES)} or BF16, got {entry['dtype']}")
    dtype = np.dtype("<u2") if half else DTYPES[entry["dtype"]]
    if not last == begin <= end <= len(data) or math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f"shape {shape} of {entry['dtype']} at {begin} .. {end} of {len(data)} "
                         f"bytes, the tensor before ending at {last}")
    array = np.frombuffer(data[begin:end], dtype)
    if half:
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.reshape(shape).copy(), end
