"""`python -m switch_np equations`: which lines of code compute which equation of the paper.

The table is the docstring of `switch_np.switch`; files and lines are looked up when it is printed.
"""

import argparse
import inspect
import pkgutil
import re
from pathlib import Path
from typing import NamedTuple

from switch_np import switch

LINE = "{:<28}{:<46}{}"
HEAD = LINE.format("in the paper", "computed by, derivative below", "where")


class Row(NamedTuple):
    """A place in the paper, the function that computes it, and the function of its derivative.

    Functions are dotted paths below `switch_np`; without one, the cell says why: "none: data".
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
    printed = {row: _line(row.place, row.computed) + "\n" + _line("", row.derivative)
               for row in rows(switch.__doc__ or "")}
    wanted = [text for row, text in printed.items()
              if all(_has(word, row.place + _each_of(row.place), text) for word in args.filters)]
    if not wanted:
        raise ValueError(f"WORD must be in a row of the table, got {' '.join(args.filters)!r}; "
                         f"without a WORD, all rows are printed")
    print("\n".join((HEAD, *wanted)))
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


def _has(word: str, place: str, text: str) -> bool:
    """Return whether a row has a WORD, in any case; a number, only in its place, and as a whole.

    >>> _has("3", "section 2.3: table 1", "plan.py:37"), _has("3", "equation 3", "")
    (False, True)
    """
    if re.fullmatch(r"[\d.]+", word):
        return re.search(rf"(?<![\d.]){re.escape(word)}(?![\d.])", place) is not None
    return word.lower() in (place + text).lower()


def _each_of(text: str) -> str:
    """Return each equation of a range by its own name.

    >>> _each_of("equations 4 to 6: balance")
    'equation 4 equation 5 equation 6'
    """
    return " ".join(f"equation {n}" for first, last in re.findall(r"equations (\d+) to (\d+)", text)
                    for n in range(int(first), int(last) + 1))


def _line(place: str, cell: str) -> str:
    """Return a printed line, with FILE:LINE of a function, relative if it is below this folder."""
    where = ""
    if is_name(cell):
        function, here = pkgutil.resolve_name(f"switch_np.{cell}"), Path.cwd()
        path = Path(inspect.getfile(function))
        path = path.relative_to(here) if path.is_relative_to(here) else path
        where = f"{path}:{inspect.getsourcelines(function)[1]}"
    return LINE.format(place, cell, where).rstrip()
