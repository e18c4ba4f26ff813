"""What notebook 07 judges was recorded here; run as a script, this file records it anew."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle
from switch_np.oracle.judge.tensor import LIMIT

FOLDER = Path(__file__).parents[2] / "notebooks" / "recorded"
CONFIG = SwitchConfig(num_experts=4, capacity_factor=1.0)
SEED = 35
CHOSEN = np.arange(32) * 7 % 4                         # experts that no router was asked about
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def problem(seed=SEED):
    """Return inputs that are numbers of bfloat16, so that both precisions get the same."""
    return {**oracle.draw(CONFIG, 32, d_model=8, d_ff=12, seed=seed, precision="bfloat16"),
            "balance_coef": 0.125, "z_coef": 0.125}


def shown(name):
    """Return the function whose text the notebook shows."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.layer


def run_torch(asked, dtype, chosen=None, **options):
    import torch

    leaves = [torch.tensor(value, dtype=getattr(torch, dtype), requires_grad=True)
              for value in (asked["x"], *asked["params"].values())]
    if chosen is not None:
        options["expert"] = torch.tensor(chosen)
    y, balance, z, expert, kept = shown("torch_layer")(
        *leaves, CONFIG.expert_capacity(len(leaves[0])), **options)
    objective = (y * torch.tensor(asked["d_y"], dtype=y.dtype)).sum()
    grads = torch.autograd.grad([objective, balance, z], leaves, [
        torch.ones_like(objective), torch.tensor(asked["balance_coef"]),
        torch.tensor(asked["z_coef"])])
    return named(asked, y, balance, z, expert, kept, grads)


def run_jax(asked, dtype, **options):
    import jax
    import jax.numpy as jnp

    layer, capacity = shown("jax_layer"), CONFIG.expert_capacity(len(asked["x"]))
    leaves = [jnp.asarray(value, dtype) for value in (asked["x"], *asked["params"].values())]
    y, pull_back, rest = jax.vjp(
        lambda *leaves: split(layer(*leaves, capacity, **options)), *leaves, has_aux=True)
    grads = pull_back((jnp.asarray(asked["d_y"], dtype), jnp.float32(asked["balance_coef"]),
                       jnp.float32(asked["z_coef"])))
    return named(asked, *y, *rest, grads)


def split(given):
    return given[:3], given[3:]


def named(asked, y, balance, z, expert, kept, grads):
    got = {"y": y, "balance_loss": balance, "z_loss": z, "expert": expert, "kept": kept}
    got |= {f"d_{name}": grad for name, grad in zip(("x", *asked["params"]), grads)}
    return {name: oracle.to_numpy(value) for name, value in got.items()}


def record():
    """Return every array of the file, by library, layer, precision and name."""
    asked, found = problem(), {}
    for dtype in ("float32", "bfloat16"):
        found |= {f"torch.right.{dtype}": run_torch(asked, dtype),
                  f"torch.wrong.{dtype}": run_torch(asked, dtype, bug=True),
                  f"jax.right.{dtype}": run_jax(asked, dtype),
                  f"jax.wrong.{dtype}": run_jax(asked, dtype, bug=True)}
    found["torch.chosen.float32"] = run_torch(asked, "float32", CHOSEN)
    found["jax.after_drops.float32"] = run_jax(asked, "float32", after_drops=True)
    found["in.all.bfloat16"] = {name: asked[name].astype(np.float32) for name in ("x", "d_y")} | {
        name: value.astype(np.float32) for name, value in asked["params"].items()}
    return {f"{kernel}.{name}": small(value, kernel.endswith("bfloat16"))
            for kernel, got in found.items() for name, value in got.items()}


def small(array, short):
    """Return what is stored: bfloat16 as its 16 bits, ids as bytes."""
    if array.dtype.kind != "f":
        return array.astype(np.uint8)
    array = array.astype(np.float32)
    bits = array.view(np.uint32)
    if short and array.ndim:                                 # losses are float32 in both
        assert not (bits & 0xFFFF).any()
        return (bits >> 16).astype(np.uint16)
    return array


def test_the_file_holds_no_pickle_and_says_where_it_is_from():
    with np.load(FOLDER / "layers.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    about = json.loads(arrays.pop("about").tobytes())
    assert {"torch", "jax", "made_by", "seed"} <= set(about)
    assert (FOLDER / "layers.npz").stat().st_size < 80_000
    assert {array.dtype.name for array in arrays.values()} == {"float32", "uint16", "uint8"}
    asked = problem()
    for name in ("x", "d_y"):
        assert (arrays[f"in.all.bfloat16.{name}"] == small(
            asked[name].astype(np.float32), True)).all()


@pytest.mark.crosscheck
@pytest.mark.filterwarnings("default")
def test_the_layers_give_what_was_recorded():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("jax", reason="JAX is not installed")
    fresh = record()
    ref = oracle.reference(**problem())
    with np.load(FOLDER / "layers.npz", allow_pickle=False) as stored:
        assert set(fresh) == set(stored.files) - {"about"}
        for name, value in fresh.items():
            old, (*_, precision, tensor) = stored[name], name.split(".")
            assert old.dtype == value.dtype and old.shape == value.shape, name
            if name.startswith("in.") or tensor in ("expert", "kept"):
                assert (old == value).all(), name
            else:
                error = np.abs(wide(old) - wide(value))
                assert error.max() <= LIMIT * ref.sigma(precision)[tensor].max(), name


def wide(array):
    """Return numbers of bfloat16, stored as bits, as float32."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == "uint16" else array


if __name__ == "__main__":
    import jax
    import torch

    about = {"made_by": "tests/notebooks/" + Path(sys.argv[0]).name, "seed": SEED,
             "torch": torch.__version__, "jax": jax.__version__, "numpy": np.__version__,
             "layers": "notebooks/recorded/torch_layer.py, jax_layer.py",
             "bfloat16": "16 bits in uint16"}
    np.savez_compressed(FOLDER / "layers.npz", about=np.frombuffer(
        json.dumps(about).encode(), np.uint8), **record())
