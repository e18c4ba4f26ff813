"""Options of the test suite, and settings that must come before any test imports NumPy."""

import gc
import os
from pathlib import Path

import pytest

from switch_np.commands import environment

# The last digits of a product depend on how many threads share it, and tests compare whole runs.
for name in environment.THREADS:
    os.environ.setdefault(name, "1")
# Garbage collection walks everything that the suite has loaded, by default a tenth of the time.
gc.set_threshold(100_000, 50, 50)

HERE = Path(__file__).parent
# Processes that tests start import this very tree, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))


def pytest_addoption(parser):
    parser.addoption("--golden", type=Path, default=HERE / "golden", metavar="DIR",
                     help="folder of layers recorded from other libraries (default: tests/golden)")


def pytest_configure(config):
    """Refuse a folder without recorded cases once, not in each test."""
    folder = config.getoption("--golden")
    if not any(folder.glob("*.json")):
        raise pytest.UsageError(f"--golden must be a folder of recorded cases, got {folder}, which "
                                "holds no .json")


def pytest_generate_tests(metafunc):
    """Parametrize tests by the recorded cases that they ask for: layers, or whole models."""
    folder = metafunc.config.getoption("--golden")
    models = sorted(folder.glob("hf_switch_model*.json"))
    layers = sorted(set(folder.glob("*.json")) - set(models))
    for name, paths in (("golden", layers), ("golden_model", models)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, paths, ids=[path.stem for path in paths])
