"""What the README says is so: its commands, its code, its links. Code that left it runs as well."""

import json
import re
from pathlib import Path

from conventions import golden_reader
import pytest

from switch_np import exchange
from switch_np.conventions.families import FAMILIES
from switch_np.conventions.libraries import PRESETS
from switch_np.__main__ import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_it_is_short_and_its_two_commands_of_one_line_share_their_setup():
    assert README.count("\n") <= 250 and len(README.encode()) <= 20_000
    commands = [line for kind, text in BLOCKS if kind == "sh" for line in text.strip().split("\n")]
    setup = "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt -e . && "
    assert commands[:2] == [setup + ".venv/bin/python -m switch_np train",
                            setup + ".venv/bin/python -m pytest"]


def elsewhere():
    """Yield the examples of other libraries in the exchange's map and in notebook 07."""
    yield from re.findall(r"```(python)\n(.*?)```", exchange.__doc__, re.DOTALL)
    yield "python", (ROOT / "notebooks" / "recorded" / "jax_live.py").read_text(encoding="utf-8")


def examples():
    """Yield each block of Python, with what it says that it prints: in comments, or in a block."""
    blocks = [*BLOCKS, *elsewhere()]
    for at, (kind, code) in enumerate(blocks):
        if kind == "python":
            said = re.findall(r"print\(.*\)\s+# (.*)", code)
            after = blocks[at + 1] if at + 1 < len(blocks) else ("", "")
            library = re.search(r"^import (torch|jax)$", code, re.MULTILINE)
            yield pytest.param(
                code, after[1].strip().split("\n") if after[0] == "text" else said, library,
                marks=pytest.mark.crosscheck if library else (), id=library[1] if library else None)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_there_is_an_example_of_each_library(library):
    assert sum(code.count(f"import {library}\n") for _, code in elsewhere()) == 1


@pytest.mark.parametrize("code, said, library", list(examples()))
def test_code_runs_and_prints_what_it_says(code, said, library, capsys):
    for needed in re.findall(r"^(?:import|from) (torch|jax|transformers)\b", code, re.MULTILINE):
        pytest.importorskip(needed)
    exec(compile(code, "README.md", "exec"), {})
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == said
    assert said or "assert_matches" in code


def test_the_command_that_stands_for_a_table_lists_the_presets(capsys):
    assert "`.venv/bin/python -m switch_np presets` prints" in README
    recorded = {golden_reader.preset_name(json.loads(path.read_text()))
                for path in (ROOT / "tests" / "golden").glob("*__*.json")
                if not path.stem.startswith("hf_switch_model")}      # whole models, not layers
    assert main(["presets"]) == 0
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()[1:-2]}
    assert recorded == {name for name, row in rows.items() if "recorded" in row[86:]}
    named = [name for name, row in FAMILIES.items() if not row.alone]
    assert f"the paper, {len(PRESETS) - 1} other routers, and {len(named)} of the 76" in README


@pytest.mark.parametrize("folder", [".", "notebooks", "switch_np/experiments", "tests/benchmarks"])
def test_links_and_pictures_are_there(folder):
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)|<img src=\"([^\"]+)\"", text):
        link = target[0] or target[1]
        if not link.startswith("http"):
            assert (ROOT / folder / link).exists(), link


def test_its_folders_are_those_of_the_package():
    listed = re.findall(r"`(switch_np/\w+)/`", README)
    there = {f"switch_np/{path.parent.name}" for path in (ROOT / "switch_np").glob("*/__init__.py")}
    assert set(listed) == there


def test_requirements_are_the_four():
    names = re.findall(r"^[a-z]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert names == ["numpy", "matplotlib", "jupyter", "pytest"]


def test_extras_are_named_as_every_pip_finds_them():
    project = (ROOT / "pyproject.toml").read_text().split("optional-dependencies]\n")[1]
    there = re.findall(r"^(\S+) =", project.split("\n\n")[0], re.MULTILINE)
    named = re.findall(r"\.\[([\w-]+)\]\"", README)
    assert "hugging-face" in named and set(named) <= set(there)
    assert not [name for name in there if "_" in name]         # pip 23.2 looks for the '-' in vain
