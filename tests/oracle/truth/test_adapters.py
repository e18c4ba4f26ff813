"""Arrays of any library are taken by what they can do."""

import numpy as np
import pytest

from switch_np import oracle
from switch_np.oracle.truth import adapters


class Tensor:
    """What a tensor of another library looks like from outside."""

    def __init__(self, values, dtype):
        self.values, self.dtype, self.shape = values, dtype, values.shape

    def detach(self):
        return self

    cpu = detach

    def float(self):
        return Tensor(self.values.astype(np.float32), "torch.float32")

    def __array__(self, dtype=None, copy=None):
        if "bfloat16" in str(self.dtype):
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values


def test_adapters_go_by_what_an_array_can_do():
    tensor = Tensor(np.array([1.5, -2.0]), "torch.bfloat16")
    assert oracle.to_numpy(tensor).tolist() == [1.5, -2.0]
    assert adapters.precision_of(tensor, np.zeros(1)) == "bfloat16"
    assert adapters.precision_of(1.0) is None
    with pytest.raises(TypeError, match="array of numbers"):
        oracle.to_numpy({"a": 1})
