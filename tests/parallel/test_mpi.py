"""The MPI engine: the same bits as the simulated ranks; errors, deaths and stalls end all ranks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.crosscheck
HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"


def launch(size, *words, check=True, seconds=60, cwd=None):
    """Run Python on so many ranks; return the process, its output and how long it took."""
    pytest.importorskip("mpi4py")
    if not MPIEXEC.exists():
        pytest.skip(f"needs {MPIEXEC}, which the package mpich brings")
    begin = time.perf_counter()
    done = subprocess.run(
        [MPIEXEC, "-n", str(size), sys.executable, "-W", "error", *map(str, words)],
        capture_output=True, text=True, timeout=seconds, cwd=cwd,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"})
    if check:
        assert done.returncode == 0, done.stderr
    return done, time.perf_counter() - begin


@pytest.mark.parametrize("size", [1, 2, 4])
def test_both_engines_give_the_same_bits(size):
    done, _ = launch(size, HERE / "on_ranks.py", "bits")
    assert done.stdout.count("same bits") == size


@pytest.mark.parametrize("how, message", [
    ("error", r"rank 1 of 3, all_gather of losses: ZeroDivisionError: of its own"),
    ("stall", r"reduce_scatter of grads: no answer in 1 s from a rank that stalls"),
    ("kill", "(signal 9)")])
def test_what_ends_one_rank_ends_all(how, message):
    done, seconds = launch(3, HERE / "on_ranks.py", how, check=False)
    assert done.returncode and message in done.stderr + done.stdout and seconds < 10
