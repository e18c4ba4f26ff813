"""safetensors files as plain NumPy writes and reads them."""

import json

import numpy as np
import pytest

from switch_np.operations import safetensors


def test_transposed_arrays_are_written_row_by_row(tmp_path):
    array = np.arange(6.0).reshape(2, 3).T
    safetensors.write(tmp_path / "a.safetensors", {"a": array, "flag": array > 2}, {"b": "c"})
    arrays, about = safetensors.read(tmp_path / "a.safetensors")
    assert (arrays["a"] == array).all() and about == {"b": "c"}
    assert arrays["flag"].dtype == np.uint8
    with pytest.raises(TypeError, match=r"float64, int64.* uint8, got float32"):
        safetensors.write(tmp_path / "a.safetensors", {"a": array.astype(np.float32)}, {})
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        safetensors.read(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("entries, message", [
    ({"a": ("F64", [-1], [0, 8])}, "a must be a tensor .*shape"),
    ({"a": ("F64", [1], [0, 8]), "b": ("F64", [1], [0, 8])}, "b must be a tensor .*at 0 .. 8"),
    ({"a": ("F64", [1], [8, 16])}, "a must be a tensor .* before ending at 0"),
    ({"a": ("F32", [1], [0, 4])}, "12 bytes after the last tensor"),
    ({"a": ("F64", [2 ** 40], [0, 2 ** 43])}, "a must be a tensor")])
def test_tensors_fill_the_file_one_after_another(tmp_path, entries, message):
    header = json.dumps({name: dict(zip(("dtype", "shape", "data_offsets"), values))
                         for name, values in entries.items()}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(ValueError, match=rf"a\.safetensors must be a safetensors.*{message}"):
        safetensors.read(path)
