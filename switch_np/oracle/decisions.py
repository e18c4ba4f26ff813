"""Another library's decisions as a plan: expert ids, who was kept, and in which slot.

The derivative is that of the layer with these decisions frozen. The ids may be any distinct
experts, also such as the router would not have chosen: replay has no opinion, `compare` has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np.operations import check
from switch_np.oracle.adapters import to_numpy
from switch_np.switch import plan as plans
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


def as_plan(decisions: Any, config: SwitchConfig, num_tokens: int, *, num_groups: int = 1,
            padding_T: np.ndarray | None = None, training: bool = False) -> Plan:
    """Return the plan that makes just these decisions.

    Parameters
    ----------
    decisions
        A `Plan`; or expert ids (T,), (T, K) or (B, S, K) of any library; or a dict with `expert`
        and, as far as known, `kept` (bool) and `slot`, of the same shape. Without `kept` the
        capacity decides, in the order of the config.
    config
        Says the number of experts and the capacity.
    num_tokens, num_groups, padding_T, training
        As `plan.decide` takes them.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=2, capacity=1)
    >>> as_plan(np.array([0, 0, 1]), config, 3).kept[:, 0].tolist()
    [True, False, True]
    >>> as_plan({"expert": [0, 0, 1], "kept": [False, True, True]}, config, 3).token.tolist()
    [1, 2]
    """
    if isinstance(decisions, Plan):
        return decisions
    if not isinstance(decisions, Mapping):
        decisions = {"expert": decisions}
    unknown = set(decisions) - {"expert", "kept", "slot"}
    if unknown or "expert" not in decisions:
        raise ValueError("plan must be a Plan, expert ids or a dict of expert, kept and slot, "
                         f"got the keys {sorted(decisions)}")
    expert_TK = table("expert", decisions["expert"], num_tokens)
    check.integers("expert", expert_TK, (num_tokens, "K"), 0, config.num_experts)
    filled = plans.fill(
        expert_TK, config.num_experts, num_groups=num_groups, padding_T=padding_T,
        capacity=config.expert_capacity(num_tokens // max(num_groups, 1), training))
    known = {name: table(name, decisions[name], num_tokens) for name in ("kept", "slot")
             if decisions.get(name) is not None}
    if not known:
        return filled
    kept_TK = known["kept"].astype(bool) if "kept" in known else known["slot"] >= 0
    if kept_TK.shape != expert_TK.shape:
        raise ValueError(f"kept must have the shape of expert, {expert_TK.shape}, "
                         f"got {kept_TK.shape}")
    return keep(filled, kept_TK, known.get("slot"), padding_T)


def keep(plan: Plan, kept_TK: np.ndarray, slot_TK: np.ndarray | None = None,
         padding_T: np.ndarray | None = None) -> Plan:
    """Return the plan with other choices kept; without slots, in the order of choice and position.

    >>> plan = plans.fill(np.array([[0], [0]]), 1, capacity=1)
    >>> keep(plan, np.array([[False], [True]])).kept[:, 0].tolist()
    [False, True]
    """
    e, g = plan.load.shape[1], plan.load.shape[0]
    everyone = plans.fill(plan.expert, e, num_groups=g, padding_T=padding_T, capacity=None)
    mine_N = kept_TK[everyone.token, everyone.choice]
    token_N, choice_N = everyone.token[mine_N], everyone.choice[mine_N]
    queue_N = plan.expert[token_N, choice_N] * g + everyone.group[token_N]
    length = np.bincount(queue_N, minlength=e * g)
    place_N = np.arange(len(queue_N)) - (np.cumsum(length) - length)[queue_N]
    if slot_TK is not None:
        place_N = slot_TK[token_N, choice_N]
        order_N = np.lexsort((place_N, queue_N))
        token_N, choice_N, queue_N, place_N = (
            part[order_N] for part in (token_N, choice_N, queue_N, place_N))
        twice = (np.diff(queue_N) == 0) & (np.diff(place_N) == 0)
        if (place_N < 0).any() or twice.any():
            bad = int(np.argmax(place_N < 0)) if (place_N < 0).any() else int(twice.argmax()) + 1
            raise ValueError("slot must be at least 0 and unique per expert and group for kept "
                             f"choices, got {place_N[bad]} for token {token_N[bad]}")
    slots_TK = np.full(kept_TK.shape, -1)
    slots_TK[token_N, choice_N] = place_N
    start = np.append(0, length.reshape(e, g).sum(axis=1).cumsum())
    return replace(plan, slot=slots_TK, kept=slots_TK >= 0, token=token_N, choice=choice_N,
                   row=np.arange(len(token_N)), start=start, layout="packed",
                   capacity=max(plan.capacity, int(place_N.max(initial=-1)) + 1))


def table(name: str, value: Any, num_tokens: int) -> np.ndarray:
    """Return whole numbers or bools of any library as (T, K)."""
    array = to_numpy(value)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{name} must hold whole numbers or bools, got {array.dtype}")
    if num_tokens == 0 or array.size % num_tokens or array.size == 0:
        if array.shape[:1] != (num_tokens,):
            raise ValueError(f"{name} must have a row for each of {num_tokens} tokens, "
                             f"got shape {array.shape}")
        return array.reshape(num_tokens, -1 if array.size else 1)
    return array.reshape(num_tokens, -1)
