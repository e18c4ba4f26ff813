"""Options of the test suite, and what must be settled before any test imports NumPy."""

import gc
import os
from pathlib import Path

import pytest

from switch_np.operations import environment

# The last digits of a product depend on how many threads share it, and so would the runs compared.
for name in environment.THREADS:
    os.environ.setdefault(name, "1")
# The collector would walk all that the suite has loaded, a tenth of the time, and free little.
gc.disable()

HERE = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--golden", type=Path, default=HERE / "golden", metavar="DIR",
                     help="folder of recorded layers of other libraries, in place of tests/golden")


def pytest_configure(config):
    """Say once, not for each test, that there is nothing to test."""
    folder = config.getoption("--golden")
    if not any(folder.glob("*.json")):
        raise pytest.UsageError(f"--golden must be a folder of recorded cases, got {folder}, which "
                                "holds no .json")


def pytest_generate_tests(metafunc):
    """Hand each recorded case to the tests that ask for one: of layers, or of whole models."""
    folder = metafunc.config.getoption("--golden")
    models = sorted(folder.glob("hf_switch_model*.json"))
    layers = sorted(set(folder.glob("*.json")) - set(models))
    for name, paths in (("golden", layers), ("golden_model", models)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, paths, ids=[path.stem for path in paths])


@pytest.fixture
def rng():
    import numpy as np                   # not before the environment is settled

    return np.random.default_rng(0)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def jax():
    """JAX in float64, for the length of a test."""
    found = pytest.importorskip("jax", reason="JAX is not installed")
    found.config.update("jax_enable_x64", True)
    yield found
    found.config.update("jax_enable_x64", False)
