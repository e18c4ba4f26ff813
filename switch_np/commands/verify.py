"""`python -m switch_np verify GOT CASE`: judge what a program computed for a test vector."""

from __future__ import annotations

import argparse

from switch_np.oracle import vectors
from switch_np.oracle.precision import PRECISIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("got", metavar="GOT", help=".npz or .safetensors with y, balance_loss, z_loss, d_x, "
        "d_w_router, d_w_in, d_w_out, expert, kept, slot, or some of them")
    add("case", metavar="CASE", help="the case's file, written by `vectors`")
    add("--precision", choices=sorted(PRECISIONS), default=None,
        help="precision of the program (default: that of its arrays)")


def run(args: argparse.Namespace) -> int:
    """Print the report; the status is 0 for a pass, 1 for a failure, 3 for no verdict."""
    report = vectors.verify(args.got, args.case, args.precision)
    print(report)
    return {"pass": 0, "fail": 1}.get(report.verdict, 3)
