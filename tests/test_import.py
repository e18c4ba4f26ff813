"""`import switch_np` is light: NumPy alone, and quick."""

import subprocess
import sys

import pytest

CODE = """
import sys, time
import numpy
begin = time.process_time()
import switch_np
for name in switch_np.__all__:
    getattr(switch_np, name)
spent = time.process_time() - begin
heavy = {"matplotlib", "scipy", "torch", "jax", "pandas", "IPython"} & set(sys.modules)
print(spent, sorted(heavy))
"""


def test_import_needs_numpy_alone_and_is_quick():
    for _ in range(5):                                       # the machine may be busy
        out = subprocess.run([sys.executable, "-W", "error", "-c", CODE], text=True,
                             capture_output=True, check=True).stdout
        spent, heavy = out.split(maxsplit=1)
        assert heavy.strip() == "[]"
        if float(spent) < 0.2:
            return
    pytest.fail(f"five imports took {spent} s and more")


def test_a_home_is_imported_when_it_is_asked_for():
    code = "import switch_np; print(switch_np.experiments.read('table1'))"
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], text=True,
                         capture_output=True, check=True).stdout
    assert out.startswith("<Results: rows ") and len(out) < 1000


def test_what_is_public_is_there():
    import switch_np

    for name in switch_np.__all__:
        assert hasattr(switch_np, name), name
    assert switch_np.Noise(jitter=1.0).jitter == 1.0          # what the oracle's noise= takes
    assert switch_np.__version__.count(".") == 2
