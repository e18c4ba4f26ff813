"""One rank's tensors and choices placed among those of all ranks, so that they are judged alike.

The other ranks' parts are taken from the truth, so they are right.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np.operations import adapters, check
from switch_np.oracle import truth as truths
from switch_np.oracle.truth.decisions import by_token
from switch_np.oracle.truth.reference import Reference


def whole(ref: Reference, rank: int, given: Mapping[str, Any], decisions: dict[str, Any] | None
          ) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return a rank's tensors and decisions, filled up with the truth of the other ranks."""
    if not ref.ranks:
        raise ValueError("rank must go with a reference made with ranks=, got one without")
    check.integer("rank", rank, 0, len(ref.ranks))
    n, want = len(ref.ranks), ref.outputs()
    tensors = {name: value if value is None else truths.ranks.whole(
        name, adapters.lift(value, name), rank, want[name], n) for name, value in given.items()}
    if decisions is None:
        return tensors, None
    own = len(ref.plan.expert) // n
    told = {}
    for name, value in decisions.items():
        told[name] = getattr(ref.plan, name).copy()
        told[name][rank * own:(rank + 1) * own] = by_token(name, value, own)
    return tensors, told


def among(got: Mapping[str, np.ndarray], rank: int, truth: Reference,
          n: int) -> dict[str, np.ndarray]:
    """Return a rank's tensors among the truth of its own choices."""
    want = truth.outputs()
    own = {name: truths.ranks.own_part(name, value, rank, n) for name, value in got.items()}
    return {name: truths.ranks.whole(name, part, rank, want[name], n) for name, part in own.items()}
