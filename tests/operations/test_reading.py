"""Sizes that a file claims cost nothing, and every entry is as it was written or refused."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from switch_np.operations import reading

HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }"


def npy(count, body=b""):
    header = HEADER % count
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + body


def packed(data, compression=zipfile.ZIP_STORED, claimed=None):
    """Return a zip of one array, which may lie about its size before compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("a.npy", data)
    true, false = (struct.pack("<I", n) for n in (len(data), claimed or len(data)))
    return buffer.getvalue().replace(true, false)


@pytest.mark.parametrize("data, message", [
    (packed(npy(2 ** 28)), "a must be .*: 0 bytes for float64 numbers of shape"),
    (packed(npy(1, bytes(8)), claimed=2 ** 31), r"\d+ bytes of arrays in a file of"),
    (packed(npy(2 ** 22, bytes(2 ** 25)), zipfile.ZIP_DEFLATED), r"write it with np\.savez"),
    (packed(npy(2 ** 22, bytes(2 ** 25)), zipfile.ZIP_DEFLATED, 200), "a must be .*Bad CRC-32"),
    (packed(b"\x93NUMPY\2\0" + struct.pack("<I", 2 ** 31) + HEADER), "a must be an array as"),
    (packed(npy(1, bytes(8)), zipfile.ZIP_LZMA), "a must be .*: compression 14"),
    (packed(npy(-1, bytes(8))), "a must be an array as np.savez writes it")])
def test_no_size_is_believed(tmp_path, data, message):
    (tmp_path / "a.npz").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"a\.npz must be an npz file.*{message}"):
        reading.npz(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(data) + 2 ** 20


def test_arrays_of_every_layout_are_read(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"rows": rng.random((3, 4)), "columns": rng.random((3, 4)).T, "text": np.array("ä"),
              "big": rng.random(3).astype(">f4"), "none": np.zeros((0, 2)), "flags": np.eye(2) > 0}
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "a.npz", **arrays)
        for name, array in reading.npz(tmp_path / "a.npz").items():
            np.testing.assert_array_equal(array, arrays[name])
            assert array.dtype.isnative and array.flags.c_contiguous and array.flags.writeable


@pytest.mark.parametrize("text, message", [
    ('{"a": 1, "a": 2}', "must name each key once"), ("[" * 10 ** 5, "RecursionError: "),
    (" " * (reading.JSON_BYTES + 1), "must have at most"), ("[]", "must hold an object, got list")])
def test_json_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.json must be a JSON file, got .*{message}"):
        reading.json_file(tmp_path / "a.json")
