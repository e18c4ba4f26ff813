"""The numbers of an experiment: CSV files, the same as dicts of arrays, and as words.

NAME.csv has a row per run: arm, seed, steps (asked for), done (fewer if the run diverged), params;
those of the curve's last point; what the arm measures of a finished run alone. NAME_curves.csv has
a row per run and point of its curve: arm, seed, step; train_bits and dropped, means since the
previous point; what the arm measures, by default `bits_per_byte` on held-out text. NAME_speed.csv
has the timings. All but these are the same on every run and with any number of processes.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.experiments import statistics
from switch_np.operations import files, reading

Table = Mapping[str, np.ndarray]       # an array per column, all of one length

KEPT = Path(__file__).parent / "results"


class Results(NamedTuple):
    """All that is known of an experiment: tables of runs, of curves and of timings.

    >>> Results({"arm": np.array(["dense"]), "seed": np.zeros(1)}, {}, {})
    <Results: rows 1 of arm, seed; curves none; speed none>
    """

    rows: Table
    curves: Table
    speed: Table

    def __repr__(self) -> str:
        tables = (f"{name} {len(next(iter(columns.values())))} of {', '.join(columns)}" if columns
                  else f"{name} none" for name, columns in self._asdict().items())
        return f"<Results: {'; '.join(tables)}>"


def read(name: str, folder: Path = KEPT) -> Results:
    """Return the results in a folder (default: those kept in the repository).

    The table of timings is empty where none were taken.
    """
    rows, curves, speed = (folder / f"{name}{kind}.csv" for kind in ("", "_curves", "_speed"))
    if not rows.exists():
        raise ValueError(f"results must be there, got none at {rows}: they come with the "
                         f"repository, not with the installed package; "
                         f"`python -m switch_np table {name}` makes them")
    if not curves.exists():
        raise ValueError(f"results must be complete, got {rows} without {curves.name}: delete the "
                         f"first, and `python -m switch_np table {name}` makes both again")
    return Results(read_csv(rows), read_csv(curves), read_csv(speed))


def read_csv(path: Path) -> Table:
    """Return the columns of a file: arrays of floats or strings; {} if there is no file."""
    if not path.exists():
        return {}
    with reading.naming(path, "a table"), open(path, newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
        if len(set(header)) < len(header):
            raise ValueError(f"columns of one name in {', '.join(header)}")
        return table([dict(zip(header, row, strict=True)) for row in rows])


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows as columns: floats if every entry is a number or empty (NaN), else strings.

    >>> table([{"arm": "dense", "bits": "2.5"}, {"arm": "moe", "bits": ""}])["bits"].tolist()
    [2.5, nan]
    """
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        entries = [row.get(name, "") for row in rows]
        try:
            columns[name] = np.array([np.nan if entry == "" else float(entry) for entry in entries])
        except ValueError:
            columns[name] = np.array(entries)
    return columns


def records(columns: Table) -> list[dict[str, Any]]:
    """Return the rows of a table, a dict each: the inverse of `table`."""
    return [dict(zip(columns, values))
            for values in zip(*(column.tolist() for column in columns.values()))]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a file, numbers with six digits; the file is never half written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)),
                            lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _entry(value) for name, value in row.items()} for row in rows)
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
    """Return a column's values by arm, one per seed, in the order of the rows.

    >>> by_arm({"arm": np.array(["a", "b", "b"]), "bits": np.array([3.0, 1.0, 2.0])}, "bits")
    {'a': array([3.]), 'b': array([1., 2.])}
    """
    return {str(arm): columns[name][columns["arm"] == arm]
            for arm in dict.fromkeys(columns["arm"].tolist())}


def by_seed(rows: Table, column: str, weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted sum over arms of a column, for each seed that all of them have.

    >>> rows = {"arm": np.array(["a", "a", "b", "b"]), "seed": np.array([0.0, 1.0, 1.0, 2.0]),
    ...         "bits": np.array([3.0, 4.0, 1.0, 2.0])}
    >>> by_seed(rows, "bits", {"a": 1, "b": -1})
    array([3.])
    """
    seeds, values = by_arm(rows, "seed"), by_arm(rows, column)
    if not set(weights) <= set(seeds):
        return np.array([])
    found = {arm: dict(zip(seeds[arm].tolist(), values[arm].tolist())) for arm in weights}
    shared = sorted(set.intersection(*(set(of_arm) for of_arm in found.values())))
    return np.array([sum(weight * found[arm][seed] for arm, weight in weights.items())
                     for seed in shared])


def curve(curves: Table, arm: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps (points,) and a column (seeds, points) of one arm's curves.

    Points that a diverged run did not reach are NaN.

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
    """Return the step at which a curve of straight lines first is at most `threshold`, or NaN.

    >>> steps_to(np.array([10, 20, 30]), np.array([4.0, 3.0, 2.0]), 2.5)
    25.0
    """
    n = int(np.argmax(values <= threshold))
    if not values[n] <= threshold:
        return float("nan")
    if n == 0:
        return float(steps[0])
    fraction = (values[n - 1] - threshold) / (values[n - 1] - values[n])
    return float(steps[n - 1] + fraction * (steps[n] - steps[n - 1]))


def mean_and_interval(values: np.ndarray, digits: int) -> str:
    """Return the mean over the seeds, and half of its 95 % interval.

    >>> mean_and_interval(np.array([2.0, 2.1, 2.4]), 2)
    '2.17 ± 0.52'
    >>> mean_and_interval(np.array([2.0, np.nan]), 2)
    '2.00 (1 of 2 diverged)'
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "diverged" if len(values) else ""
    mean, half = f"{finite.mean():.{digits}f}", statistics.measure(finite).half
    if len(finite) < len(values):
        return f"{mean} ({len(values) - len(finite)} of {len(values)} diverged)"
    return mean if len(finite) == 1 else f"{mean} ± {half:.{digits}f}"


def intervals(values: Mapping[str, np.ndarray], digits: int, factor: float = 1) -> dict[str, str]:
    """Return mean and interval of each arm's values, times a factor: a column of words."""
    return {arm: mean_and_interval(factor * seeds, digits) for arm, seeds in values.items()}


def words(arms: Iterable[Any], columns: Mapping[str, Mapping[Any, str]]) -> list[dict[str, str]]:
    """Return a table of words, a row per arm, from its columns by arm; what is missing is empty.

    >>> words(["dense", "moe"], {"model": {"dense": "Dense", "moe": "MoE"}, "paper": {"moe": "2"}})
    [{'model': 'Dense', 'paper': ''}, {'model': 'MoE', 'paper': '2'}]
    """
    return [{head: column.get(arm, "") for head, column in columns.items()} for arm in arms]


def lead(value: float, unit: str, other: str = "", digits: int = 3) -> str:
    """Say how far something is ahead, or behind if the value is negative.

    >>> lead(0.25, "bits", "dense"), lead(-0.04, "nats", digits=2)
    ('0.250 bits ahead of dense', '0.04 nats behind')
    """
    side = "behind" if value <= 0 else "ahead of" if other else "ahead"
    return f"{abs(value):.{digits}f} {unit} {side} {other}".rstrip()
