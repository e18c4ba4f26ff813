"""The parts of the benchmark: each measures, and returns the rows of its table.

Milliseconds are medians over the rounds; every ratio is the median of the ratios within a round,
`low` and `high` are its quartiles.
"""

from __future__ import annotations

from typing import Any

from benchmarks import cases, operations, peers
from benchmarks.accounts import by_operation, memory
from benchmarks.compare import compared
from benchmarks.measure import Say
from benchmarks.scaling import capacities, numbers_of_experts, numbers_of_tokens

PARTS = {
    "layer": "the layer, forward and backward, at three sizes",
    "step": "the whole training step at three sizes",
    "tokens": "the layer with 1,024 to 65,536 tokens",
    "experts": "the layer with 1 to 256 experts, at the same operations per token",
    "capacity": "the layer with other capacity factors",
    "memory": "what the layer keeps, and its peak",
    "breakdown": "layer and training step by operation, each beside its limit",
}


def run(part: str, rounds: int, setting: str, say: Say = print) -> list[dict[str, Any]]:
    """Measure one part; `setting` is that of all but "layer" and "step", which have all three."""
    if part == "layer":
        return compared(cases.LAYERS, peers.LAYER, rounds, say)
    if part == "step":
        return compared(cases.MODELS, peers.STEP, rounds, say)
    if part == "tokens":
        return numbers_of_tokens(cases.TOKENS, rounds, setting)
    if part == "experts":
        return numbers_of_experts(cases.EXPERTS, rounds, setting)
    if part == "capacity":
        return capacities(cases.CAPACITIES, rounds, setting)
    if part == "memory":
        tokens = {f"T={tokens}": sizes for tokens, sizes in cases.TOKENS.items()}
        experts = {f"E={number}": sizes for number, sizes in cases.EXPERTS.items()}
        return memory({**cases.LAYERS, **tokens, **experts}, setting)
    return (by_operation("layer", cases.LAYERS, operations.LAYER, rounds, setting)
            + by_operation("step", cases.MODELS, operations.STEP, rounds, setting))
