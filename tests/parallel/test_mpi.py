"""The MPI engine: the same bits as the simulated ranks; errors, deaths and stalls end all ranks."""

import sys
import time
from pathlib import Path

import pytest
from parallel import launch

from switch_np.parallel import mpi

SCRIPT = Path(__file__).parent / "on_ranks.py"


@pytest.mark.crosscheck
@pytest.mark.parametrize("size", [1, 2, 4])
def test_both_engines_give_the_same_bits(size):
    process = launch.start(size, SCRIPT, "bits")
    out, _ = process.communicate(timeout=120)
    assert out.count("same bits") == size and process.returncode == 0, out


@pytest.mark.crosscheck
@pytest.mark.parametrize("how, message", [
    ("error", "rank 1 of 3, all_gather of losses: ZeroDivisionError: of its own"),
    ("stall", "reduce_scatter of grads: no answer in 1 s from a rank that stalls"),
    ("kill", "(signal 9)")])
def test_what_ends_one_rank_ends_all(how, message):
    begin = time.perf_counter()
    process = launch.start(3, SCRIPT, how)
    out, _ = process.communicate(timeout=120)
    assert process.returncode and message in out and time.perf_counter() - begin < 20


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ValueError, match=r"mpi4py and an MPI must be installed.*\.\[mpi\]"):
        mpi.connect()
