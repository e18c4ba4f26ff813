"""`import switch_np` is light: NumPy alone, and quick."""

import os
import subprocess
import sys

import pytest

import switch_np

CODE = """
import sys, time
begin = time.process_time()
import numpy
numpys, begin = time.process_time() - begin, time.process_time()
import switch_np
for name in switch_np.__all__:
    getattr(switch_np, name)
ratio = (time.process_time() - begin) / numpys
heavy = {"matplotlib", "scipy", "torch", "jax", "pandas", "IPython"} & set(sys.modules)
print(ratio, sorted(heavy))
"""


def said(code, **environment):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], text=True,
                          capture_output=True, check=True, env=os.environ | environment).stdout


def test_import_needs_numpy_alone_and_is_quick(tmp_path):
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(5):                                       # the first one compiles
        ratio, heavy = said(CODE, **compiled).split(maxsplit=1)
        assert heavy.strip() == "[]"
        if float(ratio) < 2:
            return
    pytest.fail(f"five imports took {ratio} times as long as NumPy's and more")


def test_a_home_is_imported_when_it_is_asked_for():
    out = said("import switch_np; print(switch_np.experiments.read('table1'))")
    assert out.startswith("<Results: rows ") and len(out) < 1000


def test_what_else_is_public_is_there():
    assert switch_np.Noise(jitter=1.0).jitter == 1.0          # what the oracle's noise= takes
    assert switch_np.__version__.count(".") == 2
