"""What `python -m switch_np bench` does: measure the parts asked for, print and draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import claims, parts, report
from switch_np.experiments import results


def run(names: Sequence[str], rounds: int, setting: str, folder: Path) -> None:
    """Measure parts one after the other; what was measured before in `folder` stays.

    Each leaves PART.csv, and machine.csv says where it was. Of all that is there bench.png is
    drawn, and claims.csv says what must hold, and whether it does.
    """
    results.write_csv(folder / "machine.csv", report.machine())
    for name in names:
        print(f"\n{name}: {parts.PARTS[name]}", flush=True)
        rows = parts.run(name, rounds, setting, lambda text: print(f"  {text}", flush=True))
        results.write_csv(folder / f"{name}.csv", rows)
        print(report.markdown(rows), flush=True)
    tables = {name: read(folder / f"{name}.csv") for name in parts.PARTS}
    found = claims.check(tables)
    if found:
        results.write_csv(folder / "claims.csv", found)
        print(f"\nwhat must hold\n{report.markdown(found)}")
    draw(tables, folder)
    print(f"\n{folder}/ holds " + ", ".join(sorted(path.name for path in folder.iterdir())))


def draw(tables: Mapping[str, list[dict[str, Any]]], folder: Path) -> None:
    """Draw bench.png of the tables that are there."""
    from benchmarks import picture

    try:
        drawn = picture.draw(tables)
    except ImportError:
        print("matplotlib is not installed: no picture is drawn")
        return
    if drawn is not None:
        drawn.savefig(folder / "bench.png", dpi=130)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; none without it."""
    return results.records(results.read_csv(path))
