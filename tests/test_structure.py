"""How the house stands: who may import whom, and what no file of the paper's room mentions."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import switch_np
from switch_np.conventions import knobs
from switch_np.conventions.table import Conventions

ROOT = Path(switch_np.__file__).parent
LAZY = {"__init__.py", "__main__.py", "pytest_plugin.py"}             # must start without NumPy


def source(path):
    return path.read_text(encoding="utf-8")


FILES = {str(path.relative_to(ROOT)): ast.parse(source(path))
         for path in sorted(ROOT.rglob("*.py"))}


def module(name):
    """Return the file of a dotted name of ours, None where it is none."""
    path = Path(*name.split(".")[1:])
    for file in (str(path) + ".py", str(path / "__init__.py")):
        if name.split(".")[0] == "switch_np" and file in FILES:
            return file
    return None


def imported(node):
    """Return our files that the import statements below a node name."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.ImportFrom) and each.module:
            found |= {module(f"{each.module}.{alias.name}") or module(each.module)
                      for alias in each.names}
        elif isinstance(each, ast.Import):
            found |= {module(alias.name) for alias in each.names}
    return found - {None}


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def body_lines(function):
    """Return how many lines a function's body has, without the docstring."""
    body = function.body[1 if ast.get_docstring(function) else 0:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_modules_form_no_circle():
    graph = {file: imported(tree) - {file} for file, tree in FILES.items() if file != "__init__.py"}
    left = dict(graph)
    while ends := [file for file, wanted in left.items() if not wanted & set(left)]:
        for file in ends:
            del left[file]
    assert not left, "\n".join(f"{file} -> {sorted(wanted & set(left))}"
                               for file, wanted in sorted(left.items()))


def test_imports_of_our_own_stand_at_the_top():
    """But for `plots`, which needs matplotlib."""
    for file in set(FILES) - LAZY:
        inside = {name for function in functions(FILES[file]) for name in imported(function)}
        assert all(name.startswith("plots/") for name in inside), file
        hidden = [node for node in ast.walk(FILES[file]) if isinstance(node, ast.If)
                  and "TYPE_CHECKING" in ast.dump(node.test)]
        assert not [name for node in hidden for name in imported(node)], file


def test_functions_fit_a_screen():
    assert [(file, f.name) for file, tree in FILES.items() for f in functions(tree)
            if body_lines(f) > 40] == []


PAPERS = sorted(path.name for path in (ROOT / "switch").glob("*.py"))
PLAIN = {"scores", "slots", "priority", "dropped"}        # knobs, and words of plain English
KNOBS = set(knobs.of(Conventions)) - PLAIN
FOREIGN = re.compile(r"\braise\b|\bisinstance\b|\b[Tt]hread|\bblock size|\bBLOCK\b|\bcache level|"
                     + "|".join(rf"\b{name}\b" for name in sorted(KNOBS)))


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_room_holds_the_paper_alone(name):
    text = source(ROOT / "switch" / name)
    assert len(text.splitlines()) <= (160 if name == "plan.py" else 130)     # with appendix B
    allowed = ("operations/", "switch/")
    if name == "config.py":
        allowed += ("conventions/table.py", "conventions/presets.py", "conventions/knobs.py")
    else:
        assert FOREIGN.findall(text) == []
        assert ("schedule" in text) == (name == "experts.py")
    assert [file for file in imported(ast.parse(text)) if not file.startswith(allowed)] == []


def test_the_papers_room_is_small():
    """But for `__init__`, which computes nothing: it is the table of what is where."""
    assert sum(len(source(ROOT / "switch" / name).splitlines())
               for name in PAPERS if name != "__init__.py") <= 842 + 42     # appendix B's


def test_the_model_knows_nothing_of_threads():
    speed = re.compile(r"\b[Tt]hread|\bblock size|\bBLOCK\b|\bcache level|core's cache")
    assert [(file, speed.findall(source(ROOT / file))) for file in FILES
            if file.startswith("transformer/") and speed.search(source(ROOT / file))] == []


def test_the_leaves_of_conventions_import_operations_alone():
    leaves = ("table", "presets", "libraries", "families", "layouts", "knobs")
    for name in leaves:
        assert all(file.startswith(("operations/", *(f"conventions/{leaf}" for leaf in leaves)))
                   for file in imported(FILES[f"conventions/{name}.py"]))


def lines_that_run():
    """Return how many lines of the package run in one forward and backward of the paper's layer."""
    config, rng = switch_np.SwitchConfig(num_experts=4), np.random.default_rng(0)
    params = switch_np.switch_layer.init(rng, 8, 16, config)
    x, seen = rng.standard_normal((24, 8)), set()

    def follow(frame, event, _):
        if not frame.f_code.co_filename.startswith(str(ROOT)):
            return None
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
        return follow

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        _, cache = switch_np.switch_layer.forward(params, x, config, rng=rng, training=True)
        switch_np.switch_layer.backward(x, cache, 0.01, 0.1)
    finally:
        sys.settrace(before)
    return len(seen)


def test_few_lines_run_for_the_papers_layer():
    """Checks, noise and schedule included; 347 before formula and schedule were taken apart."""
    lines_that_run()                                        # what is imported or remembered once
    assert 200 < lines_that_run() <= 308
