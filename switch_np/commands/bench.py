"""`python -m switch_np bench`: measure speed and memory, against bare products and other libraries.

What measures is in tests/benchmarks/, with the tests, since it drives other libraries, and this
package never imports them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import switch_np
from switch_np.commands import terminal

PARTS = ("layer", "step", "tokens", "experts", "capacity", "memory", "breakdown")
SETTINGS = ("pool", "blas", "one")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = terminal.Help
    add = parser.add_argument
    add("parts", nargs="*", default="all", metavar="PART",
        help=f"which: {', '.join(PARTS)}, or all")
    add("--rounds", type=int, default=15, metavar="N",
        help="how often each subject takes its turn; the median over the rounds counts")
    add("--setting", choices=SETTINGS, default="pool",
        help="of all parts but layer and step, which have all three: pool, switch_np's own threads "
             "on all cores; blas, the BLAS's; one, a single thread")
    add("--out", type=Path, default=Path("runs/bench"), metavar="DIR",
        help="folder of the tables and the picture")


def run(args: argparse.Namespace) -> int:
    """Measure, print tables, and leave CSV files and a picture behind."""
    names = list(PARTS) if "all" in args.parts else list(dict.fromkeys(args.parts))
    for name in names:
        if name not in PARTS:
            raise ValueError(f"PART must be among {', '.join(PARTS)}, all, got {name!r}")
    if args.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {args.rounds}")
    tests = Path(switch_np.__file__).resolve().parents[1] / "tests"
    if not (tests / "benchmarks" / "command.py").exists():
        raise ValueError("bench needs the benchmarks that come with the repository in "
                         "tests/benchmarks/, not with the installed package, got none: run it in "
                         "a clone, installed with `pip install -e .`")
    if str(tests) not in sys.path:
        sys.path.insert(0, str(tests))
    from benchmarks import command

    command.run(names, args.rounds, args.setting, args.out)
    return 0
