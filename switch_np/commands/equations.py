"""`python -m switch_np equations`: from the paper's equations to the lines of code, and back.

The table is the docstring of `switch_np.switch`; files and lines are looked up when it is printed.
"""

import argparse
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any, NamedTuple

from switch_np import switch

HEAD = ("in the paper", "computed by, derivative below", "where")


class Row(NamedTuple):
    """A place in the paper, the function that computes it, and the function of its derivative.

    A function is named by its dotted path below `switch_np`; where there is none, the cell says
    why, such as "none: data".
    """

    place: str
    computed: str
    derivative: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("filters", nargs="*", metavar="WORD", help=(
        "show only the rows that contain every WORD, such as \"equation 3\", combine or plan.py"))


def run(args: argparse.Namespace) -> int:
    """Print the rows that contain every WORD."""
    printed = [describe(row) for row in rows(switch.__doc__ or "")]
    wanted = [text for text in printed if all(word in text for word in args.filters)]
    if not wanted:
        raise ValueError(f"WORD must be in a row of the table, got {' '.join(args.filters)!r}; "
                         f"without a WORD, all rows are printed")
    print("\n".join((_line(*HEAD), *wanted)))
    return 0


def rows(text: str) -> list[Row]:
    """Return the rows of the table in a text; an indented line continues the row above.

    >>> rows("== ==\\nhead\\n== ==\\nequation 1  a.forward\\n      a.backward\\n== ==")
    [Row(place='equation 1', computed='a.forward', derivative='a.backward')]
    """
    _, _, body, *_ = re.split(r"^=[= ]+$", text, flags=re.MULTILINE)
    return [Row(*re.split(r"\s{2,}", row)) for row in re.split(r"\n(?!\s)", body.strip("\n"))]


def is_name(cell: str) -> bool:
    """Return whether a cell names a function rather than saying why there is none.

    >>> is_name("switch.router.forward"), is_name("none: data"), is_name("not here")
    (True, False, False)
    """
    return "." in cell and " " not in cell


def named(name: str) -> Any:
    """Return the function that a cell names.

    >>> named("switch.router.forward").__module__
    'switch_np.switch.router'
    """
    return pkgutil.resolve_name(f"switch_np.{name}")


def describe(row: Row) -> str:
    """Return a row as it is printed: the function on one line, its derivative below."""
    return "\n".join((_line(row.place, row.computed, _where(row.computed)),
                      _line("", row.derivative, _where(row.derivative))))


def _where(cell: str) -> str:
    """Return FILE:LINE, relative to the working directory if it is below; "" for no function."""
    if not is_name(cell):
        return ""
    function = named(cell)
    path, here = Path(inspect.getfile(function)), Path.cwd()
    path = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{path}:{inspect.getsourcelines(function)[1]}"


def _line(place: str, cell: str, where: str) -> str:
    return f"{place:<28}{cell:<46}{where}".rstrip()
