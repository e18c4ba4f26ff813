"""`python -m switch_np vectors`: write the oracle's test vectors, for any language."""

import argparse
from pathlib import Path

from switch_np.oracle import vectors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for cases and manifest")
    add("--cases", nargs="+", metavar="NAME", help="write only these (default: all)")


def run(args: argparse.Namespace) -> int:
    """Write the files, and say how many."""
    paths = vectors.write(args.out, args.cases)
    size = sum(path.stat().st_size for path in paths) / 2 ** 20
    print(f"{len(paths) // 2} cases, {size:.1f} MiB, in {args.out}; manifest.json says which bugs "
          f"each is for")
    return 0
