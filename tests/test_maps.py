"""The docstring of each folder's `__init__` is its map: it names every file, and no other."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "switch_np"
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("*/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_a_map_names_every_file_and_no_other(folder):
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    there = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in folder.glob("*/__init__.py")}
    rows = re.findall(r"^ *([a-z_0-9]+(?:, [a-z_0-9]+)*)  +[^ \W]", text, re.MULTILINE)
    listed = [name for row in rows for name in row.split(", ")]
    assert set(listed) <= there and len(set(listed)) == len(listed)
    assert {name for name in there if name not in listed and f"`{name}`" not in text} == set()
