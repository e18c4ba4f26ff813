"""`python -m switch_np verify`: judge what any program wrote for a case of the vectors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from switch_np.oracle import vectors
from switch_np.oracle.truth.roundoff import PRECISIONS

STATUS = {"pass": 0, "fail": 1, "out of range": 3, "undecided": 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("got", type=Path, metavar="GOT",
                        help="npz or safetensors with y, balance_loss, z_loss, d_x, d_w_router, "
                             "..., expert, kept, slot, or some of them")
    parser.add_argument("case", type=Path, metavar="CASE",
                        help="the case's file, npz or safetensors")
    parser.add_argument("--precision", choices=list(PRECISIONS), default=None,
                        help="in which the program computed; that of its arrays if left out")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the report; the status is 0 for a pass, 1 for a failure, 3 for neither."""
    report = vectors.verify(args.got, args.case, args.precision)
    print(json.dumps(report.to_dict(), indent=1) if args.json else report)
    return STATUS[report.verdict]
