"""How the layer's time and memory grow: with tokens, with experts, with the capacity factor.

All sizes of a table take turns in the same rounds, so that one size can be set against another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import measure, operations
from benchmarks.measure import Found
from benchmarks.peers import BARE, OURS
from benchmarks.subject import Spec
from benchmarks.turns import milliseconds, ratio

Sizes = Mapping[str, Mapping[str, Any]]
Row = dict[str, Any]


def pair(setting: str) -> tuple[Spec, Spec]:
    """Return our layer and its bare products in one setting."""
    return (Spec(OURS, "benchmarks.ours:layer", setting),
            Spec(BARE, "benchmarks.floor:layer", setting))


def against_bare(found: Found, case: str, setting: str) -> Row:
    """Return our milliseconds, those of the bare products, and the ratio."""
    ours, bare = (found.of(case, spec) for spec in pair(setting))
    to_bare = ratio(ours, bare)
    return {"setting": setting, "milliseconds": milliseconds(ours), "bare": milliseconds(bare),
            "to_bare": to_bare.median, "low": to_bare.low, "high": to_bare.high}


def numbers_of_tokens(cases: Sizes, rounds: int, setting: str) -> list[Row]:
    """Time and memory by T; `doubling`: this size's time to that of the size before.

    bytes_per_token is the peak's, without the gradients of the parameters, which no token adds to.
    """
    found = measure.timed(cases, pair(setting), rounds)
    bytes_of = measure.called("benchmarks.memory:layer", setting, cases)
    rows, before = [], None
    for case, sizes in cases.items():
        mine = found.of(case, pair(setting)[0])
        memory, tokens = bytes_of[case], sizes["tokens"]
        row = {"tokens": tokens, **against_bare(found, case, setting),
               "microseconds_per_token": 1000 * milliseconds(mine) / tokens,
               "doubling": float("nan") if before is None else ratio(mine, before).median,
               "peak_MiB": memory["peak"] / 2 ** 20,
               "bytes_per_token": (memory["peak"] - memory["params"]) / tokens}
        rows, before = [*rows, row], mine
    return rows


def numbers_of_experts(cases: Sizes, rounds: int, setting: str) -> list[Row]:
    """Time by part and memory by E.

    Columns: routing, the milliseconds of router, plan, gates, dispatch, combine and losses; experts
    and checks, of those; growth, by how much routing is more than in the first case, as a share of
    the first case's layer; bare_growth, the bare products to those of the first case; optimizer,
    AdamW's milliseconds, which are not in the layer's; memory in MiB, `peak_beyond` without the
    gradients.
    """
    parts = Spec(f"{OURS} by operation", "benchmarks.breakdown:layer", setting)
    adamw = Spec("AdamW", "benchmarks.ours:adamw", setting)
    found = measure.timed(cases, [*pair(setting), parts, adamw], rounds)
    bytes_of = measure.called("benchmarks.memory:layer", setting, cases)
    first, rows = next(iter(cases)), []
    whole = found.of(first, pair(setting)[0])
    routing = {case: _sum(found, case, parts, operations.ROUTING) for case in cases}
    for case, sizes in cases.items():
        bare, memory = pair(setting)[1], bytes_of[case]
        rows.append({
            "experts": sizes["num_experts"], **against_bare(found, case, setting),
            "bare_growth": ratio(found.of(case, bare), found.of(first, bare)).median,
            "routing": milliseconds(routing[case]),
            "growth": float(np.median((routing[case] - routing[first]) / whole)),
            "experts_part": milliseconds(_sum(found, case, parts, ("experts",))),
            "checks": milliseconds(_sum(found, case, parts, ("checks",))),
            "optimizer": milliseconds(found.of(case, adamw)),
            **{f"{name}_MiB": memory[name] / 2 ** 20
               for name in ("params", "grads", "moments", "kept", "peak")},
            "peak_beyond_MiB": (memory["peak"] - memory["grads"]) / 2 ** 20})
    return rows


def _sum(found: Found, case: str, spec: Spec, wanted: tuple[str, ...]) -> np.ndarray:
    """Return the seconds (rounds,) of some operations together."""
    return sum(seconds for part, seconds in found.seconds[case, spec.key].items()
               if operations.split(part)[0] in wanted)


def capacities(cases: Sizes, rounds: int, setting: str) -> list[Row]:
    """Time and memory by capacity factor; `kept` is the share of tokens that found a slot."""
    found = measure.timed(cases, pair(setting), rounds)
    bytes_of = measure.called("benchmarks.memory:layer", setting, cases)
    rows = []
    for case, sizes in cases.items():
        memory = bytes_of[case]
        all_rows = 4 * sizes["tokens"] * sizes["d_model"]
        rows.append({"capacity_factor": sizes["capacity_factor"],
                     "kept": memory["row_array"] / all_rows,
                     **against_bare(found, case, setting),
                     "kept_MiB": memory["kept"] / 2 ** 20, "peak_MiB": memory["peak"] / 2 ** 20})
    return rows
