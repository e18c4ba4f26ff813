"""The numbers of an experiment as CSV files, and back as plain dicts of arrays.

NAME.csv has a row per run, NAME_curves.csv one per run and point of its curve, NAME_speed.csv the
timings. All but the timings come out the same whenever and with however many processes they are
made; so there are no seconds in them.

Columns of NAME.csv: arm, seed, steps (asked for), done (fewer where loss or gradients were no
longer finite), params; then those of the last point of the curve, and what the arm measures of a
finished run alone. Columns of NAME_curves.csv: arm,
seed, step; train_bits and dropped, the means since the point before; then what the arm measures,
`bits_per_byte` on held-out text if nothing else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import files

Table = dict[str, np.ndarray]          # one array per column, all of one length

KEPT = Path(__file__).parent / "results"


class Results(NamedTuple):
    """All that is known of an experiment: a table of runs, of curves and of timings.

    >>> Results({"arm": np.array(["dense"]), "seed": np.zeros(1)}, {}, {})
    <Results: rows 1 of arm, seed; curves none; speed none>
    """

    rows: Table
    curves: Table
    speed: Table

    def __repr__(self) -> str:
        said = (f"{name} {len(next(iter(columns.values())))} of {', '.join(columns)}" if columns
                else f"{name} none" for name, columns in self._asdict().items())
        return f"<Results: {'; '.join(said)}>"


def read(name: str, folder: Path = KEPT) -> Results:
    """Return the results in a folder; without one, those kept in the repository.

    There are no timings where none were taken.
    """
    rows, curves, speed = (folder / f"{name}{part}.csv" for part in ("", "_curves", "_speed"))
    if not rows.exists():
        raise ValueError(f"results must be there, got none at {rows}: they come with the "
                         f"repository, not with the installed package, or are made by "
                         f"`python -m switch_np table {name}`")
    if not curves.exists():
        raise ValueError(f"results must be whole, got {rows} without {curves.name}: once the first "
                         f"is away too, `python -m switch_np table {name}` makes both anew")
    return Results(read_csv(rows), read_csv(curves), read_csv(speed))


def read_csv(path: Path) -> Table:
    """Return the columns of a file: arrays of floats, or of words; none without the file."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        return table(list(csv.DictReader(file)))


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows as columns: floats where every entry is a number or empty (NaN), else words.

    >>> table([{"arm": "dense", "bits": "2.5"}, {"arm": "moe", "bits": ""}])["bits"].tolist()
    [2.5, nan]
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    found: Table = {}
    for name in columns:
        entries = [row.get(name, "") for row in rows]
        try:
            found[name] = np.array([np.nan if entry == "" else float(entry) for entry in entries])
        except ValueError:
            found[name] = np.array(entries)
    return found


def records(columns: Table) -> list[dict[str, Any]]:
    """Return the rows of a table, a dict each.

    >>> records({"arm": np.array(["dense"]), "bits": np.array([2.5])})
    [{'arm': 'dense', 'bits': 2.5}]
    """
    return [dict(zip(columns, values)) for values in zip(*(
        column.tolist() for column in columns.values()))]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a file, numbers in six digits; it is never half there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_entry(row.get(name, "")) for name in columns] for row in rows)
    files.write_text(path, text.getvalue())


def _entry(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def select(columns: Table, **wanted: Any) -> Table:
    """Return the rows in which the named columns have the wanted values.

    >>> runs = {"arm": np.array(["a", "b", "b"]), "seed": np.array([0.0, 0.0, 1.0])}
    >>> select(runs, arm="b", seed=1)
    {'arm': array(['b'], dtype='<U1'), 'seed': array([1.])}
    """
    if not columns:
        return {}
    chosen = np.logical_and.reduce([columns[name] == value for name, value in wanted.items()])
    return {name: column[chosen] for name, column in columns.items()}


def by_arm(columns: Table, name: str) -> dict[str, np.ndarray]:
    """Return a column's values of each arm, one per seed, in the order of the rows.

    >>> runs = {"arm": np.array(["a", "b", "b"]), "bits": np.array([3.0, 1.0, 2.0])}
    >>> by_arm(runs, "bits")
    {'a': array([3.]), 'b': array([1., 2.])}
    """
    return {str(arm): columns[name][columns["arm"] == arm]
            for arm in dict.fromkeys(columns["arm"].tolist())}


def curve(curves: Table, arm: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps (points,) and a column (seeds, points) of one arm's curves.

    After a run's last point, where it diverged, stands NaN.

    >>> curves = {"arm": np.array(["a"] * 3), "seed": np.array([0.0, 0.0, 1.0]),
    ...           "step": np.array([5.0, 10.0, 5.0]), "bits": np.array([3.0, 2.0, 4.0])}
    >>> curve(curves, "a", "bits")[1].tolist()
    [[3.0, 2.0], [4.0, nan]]
    """
    mine = select(curves, arm=arm)
    steps, column = np.unique(mine["step"], return_inverse=True)
    seeds, row = np.unique(mine["seed"], return_inverse=True)
    values = np.full((len(seeds), len(steps)), np.nan)
    values[row, column] = mine[name]
    return steps, values


def steps_to(steps: np.ndarray, values: np.ndarray, threshold: float) -> float:
    """Return the step at which a falling curve first is at most `threshold`; NaN if never.

    Between two points it is taken as straight.

    >>> steps_to(np.array([10, 20, 30]), np.array([4.0, 3.0, 2.0]), 2.5)
    25.0
    """
    below = np.flatnonzero(values <= threshold)
    if not len(below):
        return float("nan")
    n = int(below[0])
    if n == 0:
        return float(steps[0])
    share = (values[n - 1] - threshold) / (values[n - 1] - values[n])
    return float(steps[n - 1] + share * (steps[n] - steps[n - 1]))
