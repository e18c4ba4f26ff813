"""The table from the paper's equations to the code: true in both directions, and as printed."""

import ast
import pkgutil
import re
from pathlib import Path

import pytest

import switch_np
from switch_np import switch
from switch_np.commands import equations

ROOT = Path(switch_np.__file__).parent
TABLE = switch.__doc__
WORDS = {"none", "none: data", "none: discrete", "not here", "in the same function"}
EQUATIONS = re.compile(r'(ST-MoE, )?equations? (\d)(?: to (\d))?( of "ST-MoE")?')
PLACES = re.compile(r"sections? (\d(?:\.\d)?)(?: and (\d\.\d))?|appendix ([A-Z])")


def cited(text):
    """Return the equations that a text speaks of, each with the name of its paper."""
    return {f"{'ST-MoE' if before or after else 'the paper'}, equation {n}"
            for before, first, last, after in EQUATIONS.findall(" ".join(text.split()))
            for n in range(int(first), int(last or first) + 1)}


def placed(text):
    """Return the sections and appendices that a text speaks of."""
    return {place for found in PLACES.findall(" ".join(text.split())) for place in found if place}


def sources():
    """Yield the name and the tree of each module of the paper's room."""
    for path in sorted((ROOT / "switch").glob("*.py")):
        if path.name != "__init__.py":
            yield f"switch.{path.stem}", ast.parse(path.read_text(encoding="utf-8"))


def said(tree):
    """Return what the docstrings of a module and its functions say."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return "\n\n".join(ast.get_docstring(node) or "" for node in (tree, *functions))


def wrong_names(rows):
    """Yield what is wrong with the cells of each row."""
    for row in rows:
        for cell in row[1:]:
            if not equations.is_name(cell):
                if cell not in WORDS:
                    yield f"{row.place}: neither a name nor a reason: {cell}"
                continue
            try:
                found = pkgutil.resolve_name(f"switch_np.{cell}")
            except (ImportError, AttributeError):
                yield f"{row.place}: there is no {cell}"
                continue
            home = f"{found.__module__}.{found.__qualname__}" if callable(found) else "elsewhere"
            if home != f"switch_np.{cell}":
                yield f"{row.place}: {cell} is no function or class that is defined there"
        module, _, function = row.computed.rpartition(".")
        of_module, _, derivative = row.derivative.rpartition(".")
        if equations.is_name(row.derivative) and of_module != module:
            yield f"{row.place}: {row.derivative} is not in the module of {row.computed}"
        if (function == "forward") != (derivative == "backward"):
            yield f"{row.place}: forward and backward are not named together"


def wrong_places(rows):
    """Yield where the table and the docstrings of the paper's room do not agree."""
    for module, tree in sources():
        mine = [row for row in rows if row.computed.startswith(f"{module}.")]
        if any(isinstance(node, ast.FunctionDef) and node.name == "forward" for node in tree.body):
            if f"{module}.forward" not in [row.computed for row in mine]:
                yield f"{module}: not in the table"
        places = "\n".join(row.place for row in mine)
        for equation in sorted(cited(said(tree)) ^ cited(places)):
            there = "the table" if equation in cited(places) else "the docstring"
            yield f"{module}: {equation} is in {there} alone"
        for place in sorted(placed(ast.get_docstring(tree)) - placed(places)):
            yield f"{module}: {place} is in the docstring alone"


def faults(text):
    rows = equations.rows(text)
    return [*wrong_names(rows), *wrong_places(rows)]


def test_the_table_is_true():
    assert faults(TABLE) == []


def test_the_table_has_all_of_the_paper():
    places = [row.place for row in equations.rows(TABLE)]
    assert cited("\n".join(places)) == {
        "ST-MoE, equation 5", *(f"the paper, equation {n}" for n in range(1, 7))}
    assert placed("\n".join(places)) == {
        "2", "2.1", "2.2", "2.3", "2.4", "3.1", "4.1", "4.2", "4.3", "5", *"ABCDEF"}
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("right, wrong, fault", [
    ("switch.router.forward ", "switch.router.forwards", "there is no switch.router.forwards"),
    ("switch.router.backward", "switch.rooter.backward", "there is no switch.rooter.backward"),
    ("switch.gates.backward", "switch.combine.backward", "is not in the module of switch.gates"),
    ("switch.gates.backward", "none: discrete", "forward and backward are not named together"),
    ("transformer.model.loss\n", "model.loss\n", "is not in the module of model.loss"),
    ("training.selective.stored", "training.selective.MODES ", "is no function or class"),
    ("switch.layer.choose", "conventions.bind.Plan", "is no function or class"),
    ("none: data", "nothing", "neither a name nor a reason: nothing"),
    ("equation 3: capacity ", "equation 6: capacity ",
     "the paper, equation 6 is in the table alone"),
    ("equation 2: gates ", "equation 2 to 3: g ", "the paper, equation 3 is in the table alone"),
    ("ST-MoE, equation 5: z-loss", "equation 5: z-loss        ", "ST-MoE, equation 5 is in"),
    ("section 2.1: E experts", "section 2.3: E experts", "2.1 is in the docstring alone"),
    ("appendix F: dispatch", "appendix A: dispatch", "F is in the docstring alone"),
])
def test_a_wrong_table_is_found_out(right, wrong, fault):
    assert right in TABLE
    found = faults(TABLE.replace(right, wrong))
    assert any(fault in each for each in found), found


@pytest.mark.parametrize("module", sorted(
    {row.computed.rpartition(".")[0] for row in equations.rows(TABLE)
     if re.fullmatch(r"switch\..*forward", row.computed)}))
def test_a_module_left_out_is_found_out(module):
    broken = re.sub(rf"^.*{re.escape(module)}\.forward.*\n", "", TABLE, flags=re.MULTILINE)
    assert f"{module}: not in the table" in faults(broken)


def shown(call, *words):
    """Return the printed rows as in the table, with FILE:LINE of each name."""
    head, *lines = call("equations", *words)[0].splitlines()
    assert head.split("  ")[0] == "in the paper" and len(lines) % 2 == 0
    for first, second in zip(lines[::2], lines[1::2]):
        place, computed, *where = re.split(r"\s{2,}", first)
        derivative, *more = re.split(r"\s{2,}", second.strip())
        yield equations.Row(place, computed, derivative), [*where, *more]


@pytest.mark.parametrize("inside", [True, False])
def test_each_row_is_printed_with_the_line_that_defines_it(inside, call, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT.parent if inside else tmp_path)
    found = list(shown(call))
    assert [row for row, _ in found] == equations.rows(TABLE)
    for row, places in found:
        names = [cell for cell in row[1:] if equations.is_name(cell)]
        assert len(names) == len(places), row
        for name, where in zip(names, places):
            file, line = where.rsplit(":", 1)
            assert Path(file).is_absolute() is not inside
            text = Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
            assert text.strip().startswith(f"def {name.rpartition('.')[2]}("), (name, where)
            assert Path(file).resolve().is_relative_to(ROOT.resolve())


def test_words_choose_rows(call):
    assert [row.place for row, _ in shown(call, "equation 6")] == ["equations 4 to 6: balance"]
    assert [row.place for row, _ in shown(call, "equation 3")] == [
        "equation 3: capacity", "equation 3: who is dropped", "equation 3: slots"]
    split_by_a_shell = shown(call, "EQUATION", "3")
    assert [*split_by_a_shell] == [*shown(call, "equation 3")]
    by_file = [row.computed for row, _ in shown(call, "combine.py", "equation")]
    assert by_file == ["switch.combine.forward"]
    assert ("WORD must be in a row of the table, got 'equation 7'"
            in call("equations", "equation", "7", status=2)[1])
