"""Measure the speed and the memory of switch_np, and print tables.

Run it from the root of the repository. PyTorch, JAX and transformers are measured where they are
installed.
"""

import argparse
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

# The folder `tests`, which makes this one the package `benchmarks`; and the root, for `switch_np`.
sys.path[:1] = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]

from benchmarks import breakdown, compare, memory, problems, subjects, timing  # noqa: E402

TABLES = {
    "layer": "the layer, forward and backward, of every subject",
    "step": "the whole training step of every subject",
    "text": "generation, keys and values kept, of every subject",
    "breakdown": "our training step by operation, with our own threads",
    "memory": "the arrays of our layer and its peak memory in MiB, with our own threads",
}
DEFAULT = ["small", "toy", "middle", "large", "one-row", "16-rows"]


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("tables", nargs="*", metavar="TABLE", default="all", choices=[*TABLES, "all"],
        help="default: all\n" + "\n".join(f"{name}: {what}" for name, what in TABLES.items()))
    add("--sizes", nargs="+", metavar="SIZE", default=DEFAULT,
        choices=list(problems.LAYERS | problems.STEPS | problems.TEXTS),
        help=f"default: {' '.join(DEFAULT)}\nof a layer: {' '.join(problems.LAYERS)}\n"
             f"of a training step: {' '.join(problems.STEPS)}\n"
             f"of a text: {' '.join(problems.TEXTS)}")
    add("--rounds", type=int, default=15, metavar="N", help="turns of each subject; default: 15")
    add("--no-peers", action="store_true", help="leave other libraries out")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    print(machine())
    for name in TABLES if "all" in args.tables else args.tables:
        known = {"layer": problems.LAYERS, "memory": problems.LAYERS,
                 "text": problems.TEXTS}.get(name, problems.STEPS)
        sizes = {size: known[size] for size in args.sizes if size in known}
        print(f"\n{name}: {TABLES[name]}\n", flush=True)
        print(markdown(rows(name, sizes, args.rounds, not args.no_peers)) if sizes
              else "none of these sizes", flush=True)


def rows(table: str, sizes: Mapping[str, Any], rounds: int, peers: bool) -> list[dict[str, Any]]:
    """Measure one table."""
    entries = {"layer": subjects.LAYER, "step": subjects.STEP, "text": subjects.TEXT}.get(table)
    if entries:
        return compare.compared(sizes, [entry for entry in entries
                                        if peers or entry not in subjects.PEERS], rounds)
    with timing.start("ours") as process:
        if table == "breakdown":
            return process.submit(breakdown.by_operation, sizes, rounds).result()
        return [{"size": name, **process.submit(memory.layer, size).result()}
                for name, size in sizes.items()]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([entry(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def entry(value: Any) -> str:
    """Return a float in three digits, anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def machine() -> str:
    """Return what the figures depend on: machine, cores, versions."""
    installed = {each.name: each.version for each in metadata.distributions()}
    versions = [f"{name} {installed[name]}" for name in ("numpy", "torch", "jax", "transformers")
                if name in installed]
    return ", ".join([platform.platform(), f"{timing.CORES} cores",
                      f"Python {platform.python_version()}", *versions])


if __name__ == "__main__":
    main()
