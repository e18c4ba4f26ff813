"""What must hold, held against the tables: a row per claim, with its limit and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.peers import EAGER, NO_PEERS, OURS
from benchmarks.settings import WORDS

Rows = Sequence[Mapping[str, Any]]
LIMITS = {"small": 1.5}         # of the layer's ratio to its bare products; elsewhere:
LIMIT = 1.25
STEP_LIMIT = 1.3                # of a training step to PyTorch eager's; the goal is 1
MANY = 64                       # experts up to which it must hold
GROWTH = 0.15                   # of routing, as a share of the layer with one expert
LINEAR = 1.1                    # time or memory per token, or memory, of the largest to the first
MEMORY = 1.3                    # the peak over what is kept and an array of rows


def check(tables: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """Return a row per claim of the tables that are there.

    Examples
    --------
    >>> rows = [{"case": "small", "subject": "switch_np", "setting": "pool", "to_bare": 1.6,
    ...          "to_ours": 1.0}]
    >>> [(row["found"], row["limit"], row["holds"]) for row in check({"layer": rows})]
    [(1.6, 1.5, 'no')]
    """
    found = []
    for name, claims in (("layer", _layer), ("step", _step), ("tokens", _tokens),
                         ("experts", _experts), ("memory", _memory)):
        rows = tables.get(name)
        found += [{"claim": claim, "found": value, "limit": limit,
                   "holds": "yes" if value <= limit else "no"}
                  for claim, value, limit in (claims(rows) if rows else ())]
    return found


Claims = Iterator[tuple[str, float, float]]


def _layer(rows: Rows) -> Claims:
    for row in rows:
        if row["subject"] == OURS:
            yield (f"layer, {row['case']}, {WORDS[row['setting']]}: to its bare products",
                   row["to_bare"], LIMITS.get(row["case"], LIMIT))
    for row in _peers(rows):
        yield f"layer, {row['case']}: to {row['subject']}{_one(row)}", 1 / row["to_ours"], 1.0


def _step(rows: Rows) -> Claims:
    for row in _peers(rows):
        if row["subject"].startswith(EAGER):
            yield (f"step, {row['case']}: to {row['subject']}{_one(row)} (goal: 1)",
                   1 / row["to_ours"], STEP_LIMIT)


def _tokens(rows: Rows) -> Claims:
    few, many = rows[0], rows[-1]
    for name, words in (("microseconds_per_token", "time"), ("bytes_per_token", "memory")):
        yield (f"{words} per token, {many['tokens']:,.0f} to {few['tokens']:,.0f} tokens",
               many[name] / few[name], LINEAR)


def _experts(rows: Rows) -> Claims:
    for row in rows:
        number = f"{row['experts']:.0f}"
        if row["experts"] == MANY:
            yield f"routing's growth to {number} experts, of the layer", row["growth"], GROWTH
            yield (f"peak memory without gradients, {number} experts to the first",
                   row["peak_beyond_MiB"] / rows[0]["peak_beyond_MiB"], LINEAR)
        if row["experts"] <= MANY:
            yield f"layer, {number} experts: to its bare products", row["to_bare"], LIMIT


def _memory(rows: Rows) -> Claims:
    for row in rows:
        yield f"peak memory, {row['case']}: to kept and rows", row["peak_to_kept"], MEMORY
        yield (f"peak memory, {row['case']}: to kept and rows, y let go", row["without_y_to_kept"],
               MEMORY)
        yield (f"peak memory, {row['case']}: to that, outputs and gradients", row["peak_to_all"],
               MEMORY)


def _peers(rows: Rows) -> Rows:
    return [row for row in rows if row["subject"] not in NO_PEERS
            and row.get("to_ours", 0) > 0]


def _one(row: Mapping[str, Any]) -> str:
    return f", {WORDS['one']}" if row["setting"] == "one" else ""
