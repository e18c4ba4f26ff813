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
    """Compare all subjects on all cases.

    Columns: to_bare, low and high, to the bare products of the same setting (those of "pool" for a
    peer with all cores); to_ours, to our time in the same setting, so above 1 where we are faster.
    """
    there = peers.installed(specs)
    for spec in specs:
        if spec not in there:
            say(f"left out: {spec.key}: {', '.join(peers.missing(spec))} not installed")
    say(f"starting {len(there)} processes, and compiling what is compiled")
    found = measure.timed(sizes, there, rounds, say)
    return [row(case, spec, found) for case in sizes for spec in there]


def row(case: str, spec: Spec, found: Found) -> Row:
    """Return a subject's row."""
    key, note = (case, spec.key), found.notes.get((case, spec.key), "")
    head = {"case": case, "subject": spec.name, "setting": spec.setting}
    if key not in found.seconds:
        return {**head, "note": note}
    own = spec.name in peers.NO_PEERS or spec.setting == "one"
    setting = spec.setting if own else "pool"
    bare, us = (found.seconds[case, f"{name}, {setting}"][""] for name in (peers.BARE, peers.OURS))
    to_bare = ratio(found.of(case, spec), bare)
    return {**head, "milliseconds": milliseconds(found.of(case, spec)), "to_bare": to_bare.median,
            "low": to_bare.low, "high": to_bare.high,
            "to_ours": ratio(found.of(case, spec), us).median, "note": note}
