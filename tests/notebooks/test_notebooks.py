"""Every notebook is committed as it runs: looked over, and with `-m notebook` executed anew."""

import ast
import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NUMBERED = [path for path in NOTEBOOKS if not path.stem.endswith("_solution")]
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|tmp|var|opt|usr|work|Users|mnt)/|[A-Za-z]:\\\\")
SECONDS = 60


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook):
    """Return what the cells gave, and what their sliders show."""
    models = [model for saved in notebook["metadata"].get("widgets", {}).values()
              for model in saved["state"].values()]
    return ([output for cell in code_cells(notebook) for output in cell["outputs"]]
            + [output for model in models for output in model["state"].get("outputs", [])])


def without_pictures(value):
    """Return the notebook's JSON text; base64 could spell a path by chance."""
    if isinstance(value, dict):
        return {key: without_pictures(item) for key, item in value.items() if key != "image/png"}
    return [without_pictures(item) for item in value] if isinstance(value, list) else value


def defined(code):
    """Return the names of the functions that some lines of Python define."""
    tree = ast.parse("\n".join(line for line in code.split("\n") if line[:1] not in "%!"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return functions | {target.id for node in ast.walk(tree) if isinstance(node, ast.Assign)
                        and isinstance(node.value, ast.Lambda)
                        for target in node.targets if isinstance(target, ast.Name)}


OURS = {name for path in (ROOT / "switch_np").rglob("*.py")
        for name in defined(path.read_text(encoding="utf-8")) if not name.startswith("_")}


def faults(notebook):
    """Return what is wrong with a notebook as it stands, in words."""
    cells, code, given = notebook["cells"], code_cells(notebook), outputs(notebook)
    counts = [cell["execution_count"] for cell in code]
    extra = sorted(set(notebook["metadata"]) - {"kernelspec", "language_info", "widgets"})
    path = MACHINE_PATH.search(json.dumps(without_pictures(notebook)))
    found = [fault for fault, there in (
        ("no title", cells[0]["cell_type"] != "markdown" or not source(cells[0]).startswith("# ")),
        ("not nbformat 4.5", (notebook["nbformat"], notebook["nbformat_minor"]) != (4, 5)),
        ("cell ids repeat", len({cell["id"] for cell in cells}) < len(cells)),
        (f"metadata {extra}", extra),
        (f"execution counts {counts}", counts != list(range(1, len(counts) + 1))),
        ("an error or a warning", any(
            o["output_type"] == "error" or o.get("name") == "stderr" for o in given)),
        ("no picture", not any("image/png" in o.get("data", {}) for o in given)),
        ("a picture without alternative text", any(
            "image/png" in o.get("data", {}) and not o["metadata"].get("image/png", {}).get("alt")
            for o in given)),
        (f"machine path {path and path.group()}", path),
        ("no folded solution", not any("<details>" in source(cell) for cell in cells)),
        ("no check", not any("assert " in source(cell) for cell in code))) if there]
    found += [f"{source(cell).count(chr(10)) + 1} lines: {source(cell)[:40]!r}"
              for cell in cells if source(cell).count("\n") >= 15]
    for cell in code:
        found += [f"wide line: {line!r}" for line in source(cell).split("\n") if len(line) > 100]
        found += [f"defines {name}, which switch_np has"
                  for name in sorted(defined(source(cell)) & OURS)]
    return found


def facts(notebook):
    """Return what each cell printed, and how many pictures it drew; `trained` cells are exempt."""
    found = []
    for cell in code_cells(notebook):
        printed, pictures = "", 0
        for output in cell["outputs"]:
            data = output.get("data", {})
            pictures += "image/png" in data
            if output["output_type"] == "stream":
                printed += "".join(output["text"])
            elif not {"image/png", "application/vnd.jupyter.widget-view+json"} & set(data):
                printed += "".join(data.get("text/plain", ""))
        exempt = "trained" in cell["metadata"].get("tags", [])
        found.append((source(cell), None if exempt else printed, pictures))
    return found


def attempts(notebook):
    """Return cells that try each folded solution, and then a wrong answer, on its check."""
    exercises, checks = ([cell for cell in notebook["cells"] if tag in cell["metadata"].get(
        "tags", [])] for tag in ("exercise", "check"))
    solutions = [code for cell in notebook["cells"] if "<details>" in source(cell)
                 for code in re.findall(r"```python\n(.*?)```", source(cell), re.DOTALL)]
    assert not exercises or len(exercises) == len(checks) == len(solutions)
    texts = [text for check, solution in zip(checks, solutions)
             for text in (solution, source(check), "answer = 1.5 * answer", source(check))]
    return [dict(cell_type="code", id=f"attempt-{i}", source=text, outputs=[], metadata={},
                 execution_count=None) for i, text in enumerate(texts)]


def execute(notebook):
    """Run a notebook in a fresh kernel; return it and the seconds of processor time."""
    import nbformat
    from nbclient import NotebookClient

    node = nbformat.reads(json.dumps(notebook), as_version=4)
    for cell in code_cells(node):
        cell.outputs, cell.execution_count = [], None
    before = sum(os.times()[2:4])                             # of the processes started here
    # A reply that the client slept through, as happens, is found when its wait is over.
    NotebookClient(node, timeout=3 * SECONDS, kernel_name="python3",
                   resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    return json.loads(nbformat.writes(node)), sum(os.times()[2:4]) - before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_in_order(path):
    assert faults(read(path)) == []
    assert path.stat().st_size < 1_000_000


@pytest.mark.notebook
@pytest.mark.filterwarnings("default")                              # jupyter's own are not ours
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_anew_prints_the_same_and_its_solutions_are_right(path):
    committed = read(path)
    fresh, seconds = execute({**committed, "cells": committed["cells"] + attempts(committed)})
    end = len(code_cells(committed))
    assert facts(fresh)[:end] == facts(committed)
    assert faults(fresh) == []
    printed = [text.strip() for _, text, _ in facts(fresh)[end:]]
    assert all(right == "right" for right in printed[1::4])
    assert all(wrong not in ("", "right") for wrong in printed[3::4])
    said = re.search(r"runs in under (\d+) seconds", json.dumps(committed))
    assert 0 < seconds < (min(SECONDS, int(said[1])) if said else SECONDS)


def small():
    """Return a notebook in which all is in order."""
    cells = [dict(cell_type="markdown", source=["# Draw a line"]),
             dict(cell_type="code", source=["x = 1\n", "assert x == 1"], execution_count=1,
                  outputs=[dict(output_type="stream", name="stdout", text=["0.25\n"]),
                           dict(output_type="display_data",
                                metadata={"image/png": {"alt": "a line that rises"}},
                                data={"image/png": "c/tmp/b", "text/plain": ["<picture>"]})]),
             dict(cell_type="markdown", source=["<details>x</details>"])]
    return dict(nbformat=4, nbformat_minor=5, metadata={},
                cells=[dict(cell, id=str(i), metadata={}) for i, cell in enumerate(cells)])


def plant(change):
    """Return the notebook changed: change(notebook, its cell of code)."""
    notebook = small()
    change(notebook, notebook["cells"][1])
    return notebook


@pytest.mark.parametrize(("want", "change"), [
    ("no title", lambda nb, cell: nb["cells"].pop(0)),
    ("not nbformat 4.5", lambda nb, cell: nb.update(nbformat_minor=4)),
    ("cell ids repeat", lambda nb, cell: cell.update(id="0")),
    ("metadata ['papermill']", lambda nb, cell: nb["metadata"].update(papermill={})),
    ("execution counts [2]", lambda nb, cell: cell.update(execution_count=2)),
    ("an error or a warning", lambda nb, cell: cell["outputs"][0].update(name="stderr")),
    ("an error or a warning", lambda nb, cell: cell["outputs"].append(
        dict(output_type="error", ename="E", evalue="", traceback=[]))),
    ("an error or a warning", lambda nb, cell: nb["metadata"].update(widgets={"v": {"state": {
        "0": {"state": {}}, "1": {"state": {"outputs": [dict(output_type="error")]}}}}})),
    ("no picture", lambda nb, cell: cell["outputs"].pop()),
    ("a picture without alternative text", lambda nb, cell: cell["outputs"][1].update(metadata={})),
    ("machine path /home/", lambda nb, cell: cell["outputs"][0].update(text=["in /home/me/x.py"])),
    ("16 lines: 'x = 1", lambda nb, cell: cell.update(source=["x = 1\n"] * 15 + ["assert x"])),
    ("wide line", lambda nb, cell: cell.update(source=["assert 1 == " + "1" * 100])),
    ("defines expert_colors", lambda nb, cell: cell["source"].append(
        "\ndef expert_colors(n):\n    return n")),
    ("defines figure", lambda nb, cell: cell["source"].append("\nfigure = lambda: 1")),
    ("no folded solution", lambda nb, cell: nb["cells"].pop()),
    ("no check", lambda nb, cell: cell.update(source=["x = 1"])),
])
def test_each_fault_is_found(want, change):
    assert [fault[:len(want)] for fault in faults(plant(change))] == [want]


@pytest.mark.parametrize("change", [
    lambda nb, cell: cell["outputs"][0].update(text=["0.26\n"]),
    lambda nb, cell: cell["outputs"].pop(0), lambda nb, cell: cell["outputs"].pop(),
    lambda nb, cell: cell["source"].append("\n")])
def test_each_change_of_what_a_cell_gives_is_seen(change):
    assert facts(plant(change)) != facts(small())


def test_only_the_text_of_a_trained_cell_is_exempt():
    def train(text):
        return plant(lambda nb, cell: (cell["metadata"].update(tags=["trained"]),
                                       cell["outputs"][0].update(text=[text])))

    assert facts(train("0.26\n")) == facts(train("0.25\n")) != facts(small())
    assert faults(small()) == [] and len(facts(small())) == 1


def test_the_notebooks_are_numbered_without_a_gap():
    assert [path.name[:3] for path in NUMBERED] == [
        f"{number:02d}_" for number in range(1, len(NUMBERED) + 1)] and NUMBERED
