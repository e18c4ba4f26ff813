"""The notebooks agree with their map: links, headings, and one meaning per letter."""

import ast
import copy
import re

import pytest
from notebooks.test_notebooks import NOTEBOOKS, NUMBERED, ROOT, code_cells, outputs, read, source

MAP = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
LETTERS = re.findall(r"^\| ([A-Z]) \|", MAP, re.MULTILINE)
# Left out: the words A and I, parts of names and numbers (C++, x.T), and "appendix B".
ALONE = re.compile(r"(?<![\w.\-/#])(?<!ppendix )([B-HJ-Z])(?![\w+/\-#]|['’.]\w)")


def strays(notebook):
    """Return the capitals in text, code, outputs and pictures' words that the map does not have.

    N, too, where it stands alone: it is no count of experts, and ends names of arrays.
    """
    texts = [source(cell) for cell in notebook["cells"]]
    for output in outputs(notebook):
        texts += ["".join(output.get("text", "")),
                  output.get("metadata", {}).get("image/png", {}).get("alt", "")]
    ends = {letter for cell in code_cells(notebook) for node in ast.walk(ast.parse(
        re.sub(r"^[%!].*", "", source(cell), flags=re.MULTILINE))) if isinstance(node, ast.Name)
        for name in re.findall(r"^[a-z]\w*_([A-Z]+)\d*$", node.id) for letter in name}
    alone = set(ALONE.findall("\n".join(texts)))
    return alone - (set(LETTERS) - {"N"}) | ends - set(LETTERS)


def test_each_notebook_leads_to_its_neighbours_and_to_the_map_at_top_and_bottom():
    for path in NOTEBOOKS:
        names = [other.name for other in NOTEBOOKS if other == path or other in NUMBERED]
        index = names.index(path.name)                       # a solution comes after its notebook
        wanted = [*names[max(index - 1, 0):index], "README.md", *names[index + 1:index + 2]]
        for cell in (read(path)["cells"][0], read(path)["cells"][-1]):
            last = source(cell).split("\n")[-1]
            assert re.findall(r"\]\((.*?)\)", last) == wanted, path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_letters_mean_one_thing_and_are_in_the_map(path):
    assert len(LETTERS) == len(set(LETTERS)) == 14
    assert strays(read(path)) == set()


@pytest.mark.parametrize(("want", "plant"), [
    ({"N"}, lambda cell: cell.update(source="loss = α · N · Σ f P")),
    ({"N"}, lambda cell: cell.update(source="with *N* experts")),
    ({"N"}, lambda cell: cell.update(source="{'with N': 1}", cell_type="code", outputs=[])),
    ({"N"}, lambda cell: cell.update(source="1", cell_type="code", outputs=[
        dict(output_type="stream", name="stdout", text=["the factor N does it"])])),
    ({"N"}, lambda cell: cell.update(source="1", cell_type="code", outputs=[dict(
        output_type="display_data", data={}, metadata={"image/png": {"alt": "without N"}})])),
    ({"Q"}, lambda cell: cell.update(source="Q is new")),
    ({"X"}, lambda cell: cell.update(source="probs_TX = 1", cell_type="code", outputs=[])),
    (set(), lambda cell: cell.update(source="token_N = 1", cell_type="code", outputs=[])),
    (set(), lambda cell: cell.update(source="Appendix B; C++; A token; x.T; E's; a T of six")),
])
def test_a_stray_letter_is_found(want, plant):
    notebook = copy.deepcopy(read(NOTEBOOKS[0]))
    plant(notebook["cells"][0])
    assert strays(notebook) == want


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_headings_and_links_are_the_same_in_all(path):
    text = "\n".join(source(cell) for cell in read(path)["cells"]
                     if cell["cell_type"] == "markdown")
    for said in ("**What you will do.**", "**What you will learn.**", "**What you need.**",
                 "## What real systems do differently", "## Further reading", "## Exercise"):
        assert said in text or (said[0] == "#" and path not in NUMBERED), said
    assert not re.findall(r"(?<!\[)\bnotebooks? \d\d\b", text, re.IGNORECASE)
    numbers = [int(found) for found in re.findall(r"^## (\d+)\.", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) and numbers
