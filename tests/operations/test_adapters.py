"""Arrays of other libraries: what can be read is, what cannot is named."""

import sys
import types

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle
from switch_np.operations import adapters


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


class Unreadable:
    """A tensor without numbers, or in a layout that NumPy does not know."""

    dtype, shape = "torch.float32", (12, 6)

    def cpu(self):
        raise NotImplementedError("Cannot copy out of meta tensor; no data!\nmore")


@pytest.fixture(scope="module")
def asked():
    return oracle.draw(SwitchConfig(num_experts=4, top_k=2), 12, 6, 10)


@pytest.fixture(scope="module")
def ref(asked):
    return oracle.reference(**asked)


@pytest.mark.parametrize("name", ["x", "d_y", "padding"])
def test_an_input_that_cannot_be_read_is_named(asked, name):
    with pytest.raises(TypeError, match=rf"^{name} must be .* got Unreadable \(Cannot copy.*!\)$"):
        oracle.reference(**asked | {name: Unreadable()})


def test_parameters_that_cannot_be_read_or_are_turned_are_named(asked):
    params = asked["params"]
    with pytest.raises(TypeError, match=r"^params\['w_in'\] must be an array whose numbers"):
        oracle.reference(**asked | {"params": params | {"w_in": Unreadable()}})
    with pytest.raises(ValueError, match=r"^params\['w_in'\] must have .* \(4, 10, 6\): transp"):
        oracle.reference(**asked | {"params": params | {"w_in": params["w_in"].swapaxes(1, 2)}})


def test_a_list_of_no_numbers_is_named(asked):
    with pytest.raises(TypeError, match=r"^x must be an array of numbers"):
        oracle.reference(**asked | {"x": [object()]})
    with pytest.raises(TypeError, match=r"^params\['w_in'\] must be an array of numbers"):
        oracle.reference(**asked | {"params": asked["params"] | {"w_in": [object()]}})


def test_an_output_that_cannot_be_read_is_named(ref):
    for name, given in (("y", {"y": Unreadable()}), ("d_x", {"grads": {"x": Unreadable()}}),
                        ("expert", {"y": ref.y, "expert": Unreadable()})):
        with pytest.raises(TypeError, match=f"^{name} must be an array whose numbers can be read"):
            oracle.compare(ref, **given)


def test_gradients_must_have_names_and_kept_must_be_yes_or_no(ref):
    with pytest.raises(TypeError, match=r"^grads must be a dict, got an array"):
        oracle.compare(ref, grads=ref.grads["x"])
    with pytest.raises(ValueError, match=r"^kept must hold bools, or 0 and 1, got 2"):
        oracle.compare(ref, y=ref.y, expert=ref.plan.expert, kept=2 * ref.plan.kept)


def test_bfloat16_of_a_library_that_numpy_cannot_read(monkeypatch):
    """MLX's arrays know `astype` with a dtype of their own module, and no `float`."""
    library = types.ModuleType("mlx_like")
    library.float32 = "mlx_like.float32"

    class Array:
        __module__, dtype = "mlx_like", "mlx_like.bfloat16"

        def __array__(self, *_, **__):
            raise ValueError("'bfloat16' is not a valid PEP 3118 buffer format string")

        def astype(self, dtype):
            assert dtype == "mlx_like.float32"
            return np.array([1.5, -2.0], np.float32)

    monkeypatch.setitem(sys.modules, "mlx_like", library)
    assert adapters.to_numpy(Array()).tolist() == [1.5, -2.0]
    assert adapters.precision_of(Array()) == "bfloat16"
