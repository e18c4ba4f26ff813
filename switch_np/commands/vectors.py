"""`python -m switch_np vectors`: write test vectors for any language."""

from __future__ import annotations

import argparse
from pathlib import Path

from switch_np.oracle import vectors
from switch_np.oracle.cases import CASES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--cases", nargs="+", default=None, metavar="NAME",
                        help=f"cases to write (default: all): {', '.join(CASES)}")


def run(args: argparse.Namespace) -> int:
    """Write the cases and the manifest, and say how much that is."""
    paths = vectors.write(Path(args.out), args.cases)
    size = sum(path.stat().st_size for path in paths)
    print(f"{args.out}/ holds {len(paths) // 2} cases as .safetensors and .npz, and manifest.json "
          f"which says what each hunts: {size / 1e6:.1f} MB")
    return 0
