"""Where time and memory go: each operation beside its limit, each array beside the peak."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks import measure, operations
from benchmarks.clock import REST
from benchmarks.peers import OURS
from benchmarks.subject import Spec
from benchmarks.turns import milliseconds, ratio

Sizes = Mapping[str, Mapping[str, Any]]
Row = dict[str, Any]
WHOLE = "all"


def by_operation(kind: str, cases: Sizes, parts: Iterable[str], rounds: int,
                 setting: str) -> list[Row]:
    """Return a row per case, operation and phase; the last of a case is the whole.

    `kind` is "layer" or "step". `share` is of the whole; limit, ratio, low and high are empty where
    an operation has no limit.
    """
    ours = Spec(f"{OURS} by operation", f"benchmarks.breakdown:{kind}", setting)
    limits = Spec("limits", f"benchmarks.breakdown:{kind}_limits", setting)
    found = measure.timed(cases, [ours, limits], rounds)
    rows = []
    for case in cases:
        mine, least = (found.seconds[case, spec.key] for spec in (ours, limits))
        whole = sum(mine.values())
        for part in [*parts, REST, WHOLE]:
            seconds = whole if part == WHOLE else mine[part]
            operation, phase = operations.split(part)
            row = {"of": kind, "case": case, "setting": setting, "operation": operation,
                   "phase": phase, "milliseconds": milliseconds(seconds),
                   "share": ratio(seconds, whole).median}
            if part in least:
                to_limit = ratio(seconds, least[part])
                row |= {"limit": milliseconds(least[part]), "to_limit": to_limit.median,
                        "low": to_limit.low, "high": to_limit.high}
            rows.append(row)
    return rows


def memory(cases: Sizes, setting: str) -> list[Row]:
    """Return a row per case, in MiB.

    peak_to_kept is the peak over what forward keeps for backward plus one array of rows, and
    without_y_to_kept the same once y is let go; peak_to_all is the peak over that plus forward's
    outputs and the gradients, which are there at the end whatever the way.
    """
    rows = []
    for case, found in measure.called("benchmarks.memory:layer", setting, cases).items():
        least = found["kept"] + found["row_array"]
        rows.append({"case": case, **{name: value / 2 ** 20 for name, value in found.items()},
                     "peak_to_kept": found["peak"] / least,
                     "without_y_to_kept": found["peak_without_y"] / least,
                     "peak_to_all": found["peak"] / (least + found["outputs"] + found["grads"])})
    return rows
