"""safetensors files, written and read in a few lines: eight bytes, a JSON header, the numbers.

Source: the format's own description. The first eight bytes hold the header's length, little-endian;
the header names dtype, shape and byte range of each tensor; then come the tensors, row by row. Of
the vectors, each is F64, I64 or U8: every language has them, and nothing is rounded on the way.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "U8": np.dtype("u1"), "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"), "I32": np.dtype("<i4"), "BOOL": np.dtype("u1")}
WRITTEN = ("F64", "I64", "U8")


def write(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write float64, int64 and uint8 (or bool) arrays, with a dict of strings about them."""
    path.write_bytes(encode(arrays, about))


def encode(arrays: Mapping[str, np.ndarray], about: Mapping[str, str],
           kinds: Sequence[str] = WRITTEN) -> bytes:
    """Return the file of arrays, each of one of the kinds, with a dict of strings about them."""
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
    """Return the arrays, and what is said about them.

    Reads bfloat16 too, as float32, since that is what kernels write.
    """
    data = memoryview(path.read_bytes())
    begin = 8 + int.from_bytes(data[:8], "little")
    if len(data) < begin:
        raise ValueError(f"{path} must be a safetensors file, got {len(data)} bytes")
    try:
        header = json.loads(bytes(data[8:begin]))
        about = dict(header.pop("__metadata__", {}))
        return {name: _tensor(name, entry, data[begin:]) for name, entry in header.items()}, about
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} must be a safetensors file, whole and by the format, got "
                         f"{type(error).__name__}: {error}") from error


def _tensor(name: str, entry: Mapping[str, Any], data: memoryview) -> np.ndarray:
    """Return the array that an entry of the header speaks of."""
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(data):
        raise ValueError(f"{name} lies at {begin} .. {end} of {len(data)} bytes")
    if entry["dtype"] == "BF16":
        wide = np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << np.uint32(16)
        array: np.ndarray = wide.view(np.float32)
    elif entry["dtype"] in DTYPES:
        array = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]])
    else:
        raise ValueError(f"{name} must be of a dtype in {sorted(DTYPES)} or BF16, "
                         f"got {entry['dtype']}")
    return array.reshape(entry["shape"]).copy()
