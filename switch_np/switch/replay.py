"""A plan of decisions that were taken elsewhere: by another library, another run, or by hand.

Everything after the plan is smooth, so whoever hands in the choices gets outputs and gradients for
just these choices: gates are gathered from the probabilities, f is counted from the plan. Nothing
is decided anew but what was left out; all that was handed in is checked.
"""

from __future__ import annotations

import numpy as np

from switch_np.operations import check
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan, assemble, check_plan, queue_up
from switch_np.switch.variants import balance


def from_choices(expert: np.ndarray, config: SwitchConfig, *, kept: np.ndarray | None = None,
                 slot: np.ndarray | None = None, num_groups: int = 1,
                 padding: np.ndarray | None = None, training: bool = False) -> Plan:
    """Make the plan of decisions taken elsewhere, so that another library's routing is replayed.

    Parameters
    ----------
    expert
        (T, K) whole numbers: the experts of each token, distinct, first choice first. They need not
        be the K that score best. Those of padding may be anything.
    config
        Says E, K, the capacity and what the balance loss counts.
    kept
        (T, K) bool: which choices got a slot. None: those with a slot of 0 or more or, without
        slots, those that the capacity lets in, first choices before second ones.
    slot
        (T, K) the place in the buffer of (group, expert); what stands where a choice is not kept
        does not count. None: kept choices are numbered, first choices before second ones.
    num_groups, padding, training
        As in `decide`.

    Raises
    ------
    TypeError, ValueError
        Where the decisions contradict each other or the config; the message names the argument.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=2, capacity=1)
    >>> plan = from_choices(np.array([[1], [1], [0]]), config, kept=np.array([[0], [1], [1]]) > 0)
    >>> plan.slot[:, 0].tolist(), plan.balance_count.tolist()
    ([-1, 0, 0], [[1, 2]])
    """
    e, g, k = config.num_experts, num_groups, config.num_choices
    anything = (-2**63, 2**63)
    check.integers("expert", expert, ("T", k), *anything)
    t = len(expert)
    if slot is not None:
        check.integers("slot", slot, (t, k), *anything)
    check.integer("num_groups", g, 1)
    if t % g:
        raise ValueError(f"num_groups must divide the number of tokens, {t}, got {g}")
    for name, value, shape in (("padding", padding, (t,)), ("kept", kept, (t, k))):
        if value is not None:
            check.booleans(name, value, shape)
    real_T = np.ones(t, bool) if padding is None else ~padding
    routed_T1 = (real_T | (config.conventions.padding_routing != "left_out"))[:, None]
    expert_TK = np.where(routed_T1, expert, np.arange(k))
    check.integers("expert", expert_TK, (t, k), 0, e)
    group_T = np.arange(t) // max(t // g, 1)
    queue_TK = np.where(routed_T1, expert_TK * g + group_T[:, None], e * g)
    length = queue_up(queue_TK, e * g)[1]
    capacity = config.expert_capacity(t // g, training)
    if capacity is None:
        highest = -1 if slot is None else int(np.max(slot, initial=-1))
        capacity = max(int(length.max(initial=0)), highest + 1)

    if slot is None:
        asked_TK = routed_T1 & (np.ones((t, k), bool) if kept is None else kept)
        slot = queue_up(np.where(asked_TK, queue_TK, e * g).T, e * g)[0].T
        kept = asked_TK & (slot < capacity) if kept is None else kept
    kept_TK = routed_T1 & (slot >= 0) if kept is None else kept
    if (kept_TK & ~routed_T1).any():
        raise ValueError("kept must be False for padding, got True")
    slot_TK = np.where(kept_TK, slot, -1)
    inside_TK = (slot_TK >= 0) & (slot_TK < capacity)
    if (kept_TK & ~inside_TK).any():
        token = int((kept_TK & ~inside_TK).any(axis=1).argmax())
        raise ValueError(f"slot must lie in 0 .. {capacity - 1} for kept choices, the config's "
                         f"capacity, got {slot_TK[token].tolist()} for token {token}")
    taken = (queue_TK * capacity + slot_TK)[kept_TK]
    if len(np.unique(taken)) < len(taken):
        raise ValueError("slot must differ within the buffer of a group and expert, got one twice")

    count_GE, tokens_G = balance.counts(expert_TK, kept_TK, expert_TK, group_T, (g, e), padding,
                                        config.conventions, training)
    if config.conventions.chooser == "experts":
        length = queue_up(np.where(kept_TK, queue_TK, e * g), e * g)[1]
    plan = assemble(expert_TK, slot_TK, group_T, length.reshape(e, g).T, capacity, config.layout,
                    count_GE, tokens_G)
    check_plan(plan, t, e, g)
    return plan
