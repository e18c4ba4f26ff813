"""`python -m switch_np verify`: judge what a program computed for a case of the vectors."""

import argparse
import json
from pathlib import Path

from switch_np.operations.roundoff import PRECISIONS
from switch_np.oracle import vectors

STATUS = {"pass": 0, "fail": 1, "out of range": 3, "undecided": 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("got", type=Path, metavar="GOT",
                        help="npz or safetensors with some or all of y, balance_loss, z_loss, d_x, "
                             "d_w_router, ..., expert, kept, slot")
    parser.add_argument("case", type=Path, metavar="CASE",
                        help="the case's file, npz or safetensors")
    parser.add_argument("--precision", choices=list(PRECISIONS),
                        help="that the program computed in (default: that of its arrays)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the report; the status is 0 for a pass, 1 for a failure, 3 for neither."""
    report = vectors.verify(args.got, args.case, args.precision)
    print(json.dumps(report.to_dict(), indent=1) if args.json else report)
    return STATUS[report.verdict]
