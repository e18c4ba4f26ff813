"""Layer, training and the first notebooks with what Python in a browser has (Pyodide).

It has NumPy and matplotlib, but no pydoc_data and no ipywidgets, and no thread can start; processes
and file locks are taken away as well.
"""

import json
import subprocess
import sys
from threading import Thread

import numpy as np
import pytest
from notebooks.test_notebooks import NOTEBOOKS, code_cells, facts, read
from support import layer_problem

from switch_np import SwitchConfig, switch_layer
from switch_np.__main__ import main
from switch_np.operations import threads

MISSING = ("pydoc_data", "pydoc_data.topics", "ipywidgets", "multiprocessing", "fcntl")
# Runs in a process without a kernel, which would need threads itself; prints what the cells gave.
RUN = f"""
import json, os, sys, threading
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config
def refuse(thread):
    raise RuntimeError("can't start new thread")
shell = InteractiveShell.instance(config=Config(HistoryManager=dict(enabled=False)))
threading.Thread.start = refuse
sys.modules.update(dict.fromkeys({MISSING}))
os.environ["SWITCH_NP_NUM_THREADS"] = "2"
cells = json.load(sys.stdin)
for cell in cells:
    with capture_output() as got:
        result = shell.run_cell("".join(cell["source"]))
    result.raise_error()
    cell["outputs"] = [dict(output_type="stream", name="stdout", text=[got.stdout + got.stderr])]
    cell["outputs"] += [dict(output_type="display_data", data=dict.fromkeys(shown.data, "there")
                             | {{k: v for k, v in shown.data.items() if k == "text/plain"}})
                        for shown in got.outputs]
print(json.dumps(dict(cells=cells)))
"""
NO_SLIDER = "no slider here, as ipywidgets is missing; see the still pictures\n"


@pytest.fixture
def browser(monkeypatch):
    """Take away what a browser lacks; return the list of threads that were to start."""
    refused = []

    def refuse(thread):
        refused.append(thread)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    for name in MISSING:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(threads, "count", lambda: 2)
    monkeypatch.setattr(threads, "SMALL", 0)
    threads._helpers.cache_clear()
    yield refused
    threads._helpers.cache_clear()


def test_the_layer_gives_the_same_numbers(request):
    config = SwitchConfig(num_experts=4, jitter=0.0)
    params, x, *_ = layer_problem(0, config, shape=(40,))

    def numbers():
        out, cache = switch_layer.forward(params, x, config)
        d_x, grads = switch_layer.backward(x, cache, 0.3, 0.2)
        return [out.y, d_x, *grads.values()]

    wanted, refused = numbers(), request.getfixturevalue("browser")
    assert all(map(np.array_equal, numbers(), wanted)) and len(refused) == 1


@pytest.mark.thorough
def test_a_short_training_says_which_text_it_reads_and_ends_well(browser, capsys, monkeypatch,
                                                                 tmp_path):
    monkeypatch.chdir(tmp_path)
    sizes = ["--d-model", "8", "--d-ff", "16", "--num-heads", "2", "--num-layers", "2"]
    assert main(["train", *sizes, "--seq-len", "16", "--batch-size", "4", "--steps", "3"]) == 0
    said = capsys.readouterr().out
    assert said.count("no pydoc_data: the text is the docstrings of switch_np") == 1 and browser
    assert (tmp_path / "runs/run-1/routing.png").exists()


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS[:4], ids=lambda path: path.stem)
def test_a_notebook_prints_the_same_there(path):
    committed = read(path)
    ran = subprocess.run([sys.executable, "-c", RUN], input=json.dumps(code_cells(committed)),
                         capture_output=True, text=True, cwd=path.parent, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:] + ran.stdout[-2000:]
    fresh = facts(json.loads(ran.stdout))
    assert [(code, printed and printed.replace(NO_SLIDER, ""), pictures)
            for code, printed, pictures in fresh] == facts(committed)
