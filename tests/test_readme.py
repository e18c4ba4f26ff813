"""The README says what is so: its commands, its code, its list of files."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_two_commands_of_one_line_each_share_their_setup():
    commands = [line for kind, text in BLOCKS if kind == "sh" for line in text.strip().split("\n")]
    setup = "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt -e . && "
    assert commands[:2] == [setup + ".venv/bin/python -m switch_np train",
                            setup + ".venv/bin/python -m pytest"]


@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"])
def test_code_runs_and_prints_what_it_says(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    said = re.findall(r"print\(.*\)\s+# (.*)", code)
    assert said and capsys.readouterr().out.strip().split("\n") == said


def test_every_file_of_the_package_is_listed_once():
    listed = re.findall(r"^\| `(switch_np/[\w/]+\.py)` \| (.*) \|$", README, re.MULTILINE)
    there = {}
    for path in (ROOT / "switch_np").rglob("*.py"):
        if path.name != "__init__.py":
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            there[str(path.relative_to(ROOT))] = " ".join(
                docstring.split("\n\n")[0].split()).rstrip(".")
    assert len(listed) == len(there)
    assert dict(listed) == there


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)|<img src=\"([^\"]+)\"", README):
        link = target[0] or target[1]
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_requirements_are_the_four():
    names = re.findall(r"^[a-z]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert names == ["numpy", "matplotlib", "jupyter", "pytest"]
