"""Start Python on the ranks of an MPI run, where mpi4py and an MPI are installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"


def start(size, *words, cwd=None):
    """Return the process; what the ranks print and what they complain of is one text."""
    pytest.importorskip("mpi4py")
    if not MPIEXEC.exists():
        pytest.skip(f"needs {MPIEXEC}, which the package mpich brings")
    return subprocess.Popen(
        [MPIEXEC, "-n", str(size), sys.executable, "-W", "error", *map(str, words)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd,
        env=os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1"})


def ranks(name):
    """Return the process numbers of the ranks that train the run of this name, by /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            if name in words and "switch_np" in words and "python" in words[0]:
                lines = (folder / "environ").read_bytes().decode().split("\0")
                rank = next(line for line in lines if line.startswith("PMI_RANK="))
                found[int(rank.partition("=")[2])] = int(folder.name)
        except (OSError, StopIteration):
            continue
    return found
