"""Layer and training step against their bare products and against other libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import measure, peers
from benchmarks.measure import Found, Say
from benchmarks.subject import Spec
from benchmarks.turns import milliseconds, ratio

Row = dict[str, Any]


def compared(sizes: Mapping[str, Mapping[str, Any]], specs: Sequence[Spec], rounds: int,
             say: Say = print) -> list[Row]:
    """Compare all subjects, case by case.

    Columns: to_bare, low and high, to the bare products of the same setting (those of "pool" for a
    peer with all cores); to_ours, to our time in the same setting, so above 1 where we are faster.
    """
    rows = []
    there = peers.installed(specs)
    for spec in specs:
        if spec not in there:
            say(f"left out: {spec.key}: {', '.join(peers.missing(spec))} not installed")
    for case, mine in sizes.items():
        say(f"{case}: starting {len(there)} processes")
        large = "tokens" in mine and mine["tokens"] > 2048       # one-hot tensors would take minutes
        chosen = [spec for spec in there if not (large and spec.name == peers.ONE_HOT)]
        found = measure.timed({case: mine}, chosen, rounds, say)
        rows += [row(case, spec, found) for spec in chosen]
    return rows


def row(case: str, spec: Spec, found: Found) -> Row:
    """Return a subject's row."""
    key, note = (case, spec.key), found.notes.get((case, spec.key), "")
    head = {"case": case, "subject": spec.name, "setting": spec.setting}
    if key not in found.seconds:
        return {**head, "note": note}
    ours = spec.name in (peers.BARE, peers.OURS)
    setting = spec.setting if ours or spec.setting == "one" else "pool"
    bare, us = (found.seconds[case, f"{name}, {setting}"][""] for name in (peers.BARE, peers.OURS))
    to_bare = ratio(found.of(case, spec), bare)
    return {**head, "milliseconds": milliseconds(found.of(case, spec)), "to_bare": to_bare.median,
            "low": to_bare.low, "high": to_bare.high,
            "to_ours": ratio(found.of(case, spec), us).median, "note": note}
