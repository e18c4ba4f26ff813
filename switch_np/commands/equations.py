"""`python -m switch_np equations`: from the paper's equations to the lines of the code, and back.

The table is the docstring of `switch_np.switch`; files and lines are looked up as it is printed.
"""

from __future__ import annotations

import argparse
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from switch_np import switch
from switch_np.commands import terminal

HEAD = ("in the paper", "computed by, derivative below", "where")


class Row(NamedTuple):
    """A place in the paper, the name of what computes it, and that of its derivative.

    A name is dotted, below `switch_np`; in its place there may be words, such as "none: data".
    """

    place: str
    computed: str
    derivative: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = terminal.Help
    parser.add_argument("words", nargs="*", metavar="WORD", help=(
        "show what has all of these in its row, such as \"equation 3\", combine or plan.py; "
        "everything if left out"))


def run(args: argparse.Namespace) -> int:
    """Print the rows that have all the words."""
    shown = ["\n".join(told(row)) for row in rows(switch.__doc__ or "")]
    wanted = [text for text in shown if all(word in text for word in args.words)]
    if not wanted:
        raise ValueError(f"WORD must be in a row of the table, got {' '.join(args.words)!r}; "
                         f"without any, all rows are printed")
    print("\n".join((_line(*HEAD), *wanted)))
    return 0


def rows(text: str) -> list[Row]:
    """Return the rows of the table in a text; a line that is indented goes on with the row above.

    >>> rows("== ==\\nhead\\n== ==\\nequation 1  a.forward\\n      a.backward\\n== ==")
    [Row(place='equation 1', computed='a.forward', derivative='a.backward')]
    """
    _, _, body, *_ = re.split(r"^=[= ]+$", text, flags=re.MULTILINE)
    return [Row(*re.split(r"\s{2,}", row)) for row in re.split(r"\n(?!\s)", body.strip("\n"))]


def is_name(cell: str) -> bool:
    """Return whether a cell names something, in place of saying why there is nothing.

    >>> is_name("switch.router.forward"), is_name("none: data"), is_name("not here")
    (True, False, False)
    """
    return "." in cell and " " not in cell


def named(name: str) -> Any:
    """Return what a name of the table names.

    >>> named("switch.router.forward").__module__
    'switch_np.switch.router'
    """
    return pkgutil.resolve_name(f"switch_np.{name}")


def told(row: Row) -> Iterator[str]:
    """Yield a row's lines as they are printed: what computes it, and below that the derivative."""
    yield _line(row.place, row.computed, _where(row.computed))
    yield _line("", row.derivative, _where(row.derivative))


def _where(cell: str) -> str:
    """Return FILE:LINE, the file as it is found from the working directory; nothing for words."""
    if not is_name(cell):
        return ""
    function = named(cell)
    path, here = Path(inspect.getfile(function)), Path.cwd()
    path = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{path}:{inspect.getsourcelines(function)[1]}"


def _line(place: str, cell: str, where: str) -> str:
    return f"{place:<28}{cell:<46}{where}".rstrip()
