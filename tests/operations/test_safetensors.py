"""safetensors files as plain NumPy writes and reads them."""

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
