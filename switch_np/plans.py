"""Plans without a layer: which expert and slot each token gets, and who is dropped.

`switch_layer.forward` makes its own plan; these calls are for looking at decisions and for asking
how close they are (`decide`, `margins`), and for replaying those of another library, another run or
made by hand: then gates are gathered from the probabilities, and f is counted from the plan.
"""

import sys

import numpy as np

from switch_np.conventions import arguments, serve
from switch_np.conventions.arguments import check_buffers, check_groups, check_plan
from switch_np.conventions.margins import Margins, contested, margins
from switch_np.operations import check, signatures
from switch_np.operations.queues import queue_positions
from switch_np.switch import plan as papers
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

__all__ = ["Margins", "Plan", "check_plan", "contested", "decide", "fill", "from_choices",
           "margins"]
ANYTHING = (-np.inf, np.inf)


@signatures.checked
def decide(scores_TE: np.ndarray, config: SwitchConfig, *, num_groups: int = 1,
           padding_T: np.ndarray | None = None, training: bool = False) -> Plan:
    """Give every token its experts and slots, by the paper's conventions.

    The lowest index wins a tie. Slots go to first choices by position, then to second choices. The
    capacity counts all tokens of a group, including padding, as in the authors' code.

    Parameters
    ----------
    scores_TE
        Whatever ranks the experts of a token: the router's probabilities, or logits with noise.
    config
        Says k, capacity and layout.
    num_groups
        Tokens form this many equal, consecutive groups, each with its own buffers.
    padding_T
        (T,) bool, True where the token is padding: it takes no slot and is not counted.
    training
        Selects the training capacity factor.

    Examples
    --------
    >>> scores = np.array([[.7, .3], [.6, .4], [.2, .8], [.9, .1]])
    >>> plan = decide(scores, SwitchConfig(num_experts=2, capacity_factor=1.0))
    >>> plan.expert[:, 0].tolist(), plan.slot[:, 0].tolist(), plan.dropped_fraction
    ([0, 0, 1, 0], [0, 1, 0, -1], 0.25)
    """
    if not config.conventions.papers:
        raise ValueError("config must have the paper's conventions, got others: "
                         "conventions.serve.decide follows them")
    check.floats("scores_TE", scores_TE, ("T", config.num_experts), finite=True)
    check_groups(len(scores_TE), num_groups, padding_T)
    capacity = config.expert_capacity(len(scores_TE) // max(num_groups, 1), training)
    check_buffers(config.layout, capacity, config.num_experts, num_groups)
    return papers.decide(scores_TE, config, num_groups=num_groups, padding_T=padding_T,
                        training=training)


def fill(expert_TK: np.ndarray, num_experts: int, *, num_groups: int = 1, capacity: int | None,
         padding_T: np.ndarray | None = None, layout: str = "packed") -> Plan:
    """Give slots to choices already made: the second half of `decide`.

    Examples
    --------
    >>> fill(np.array([[0], [0], [1]]), 2, capacity=1).kept[:, 0].tolist()
    [True, False, True]
    """
    check.integer("num_experts", num_experts, 1, arguments.MOST_ROWS)
    check.integers("expert_TK", expert_TK, ("T", "K"), 0, num_experts)
    if capacity is not None:
        check.integer("capacity", capacity, 0)
    check.choice("layout", layout, ["packed", "buffers"])
    check_groups(len(expert_TK), num_groups, padding_T)
    check_buffers(layout, capacity, num_experts, num_groups)
    return papers.fill(expert_TK, num_experts, num_groups=num_groups, capacity=capacity,
                      padding_T=padding_T, layout=layout)


@signatures.checked
def from_choices(expert: np.ndarray, config: SwitchConfig, *, kept: np.ndarray | None = None,
                 slot: np.ndarray | None = None, scores: np.ndarray | None = None,
                 num_groups: int = 1, padding: np.ndarray | None = None,
                 training: bool = False) -> Plan:
    """Make a plan from decisions taken elsewhere, to replay another library's routing.

    Parameters
    ----------
    expert
        (T, K) integers: the distinct experts of each token, first choice first, not necessarily the
        K best. Entries at padding matter only if the balance loss counts padding; invalid ones are
        replaced by the first K experts.
    config
        Says E, K, the capacity and what the balance loss counts.
    kept
        (T, K) bool: which choices got a slot. None: those with a slot of 0 or more or, without
        slots, those within the capacity, in the order of the config's `priority`.
    slot
        (T, K) integers: the slot in the buffer of (group, expert), ignored where a choice is not
        kept. None: kept choices are numbered in that order, or as `slots` says.
    scores
        (T, K) floats, of which the largest are served first: what the config's `priority` compares,
        such as the choices' gates or random numbers. None: the order is that of the tokens.
    num_groups, padding, training
        As in `decide`.

    Raises
    ------
    TypeError, ValueError
        If the decisions contradict each other or the config; the message names the argument.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=2, capacity=1)
    >>> plan = from_choices(np.array([[1], [1], [0]]), config, kept=np.array([[0], [1], [1]]) > 0)
    >>> plan.slot[:, 0].tolist(), plan.balance_count.tolist()
    ([-1, 0, 0], [[1, 2]])
    """
    e, g, k = config.num_experts, num_groups, config.num_choices
    check.integers("expert", expert, ("T", k), *ANYTHING)
    expert = expert.astype(np.int64)             # an unsigned -1 becomes -1 again
    t = len(expert)
    check.integer("num_groups", g, 1)
    check_groups(t, g)
    real_T = np.ones(t, bool)
    if padding is not None:
        check.booleans("padding", padding, (t,))
        real_T = ~padding
    routed_T1 = (real_T | (config.conventions.padding_routing != "left_out"))[:, None]
    expert_TK = _experts(expert, routed_T1, e)

    group_T = serve.group_of(t, g)
    queue_TK = np.where(routed_T1, expert_TK * g + group_T[:, None], e * g)
    capacity = config.expert_capacity(t // g, training)
    if scores is not None:
        check.floats("scores", scores, (t, k), finite=True)
    slot_TK = _slots(queue_TK, e * g, kept, slot, scores, capacity, t // max(g, 1), config)
    every = config.conventions.chooser == "tokens"          # experts ask only for what they keep
    length = queue_positions(np.where(every | (slot_TK >= 0), queue_TK, e * g), e * g)[1]
    if capacity is None:
        capacity = max(int(length.max(initial=0)), int(slot_TK.max(initial=-1)) + 1)
    plan = serve.from_slots(expert_TK, slot_TK, group_T, length.reshape(e, g).T, capacity, config,
                            padding, training)
    check_plan(plan, config, t, g, padding, training)
    return plan


def _experts(expert: np.ndarray, routed_T1: np.ndarray, num_experts: int) -> np.ndarray:
    """Return the choices (T, K), with invalid ones of padding replaced."""
    k = expert.shape[1]
    outside_TK = (expert < 0) | (expert >= num_experts)
    twice_TK = np.diff(np.sort(expert, axis=1), axis=1, append=num_experts + k) == 0
    wrong_T1 = (outside_TK | twice_TK).any(axis=1, keepdims=True)
    expert_TK = np.where(wrong_T1 & ~routed_T1, np.arange(k), expert)
    check.integers("expert", expert_TK, (len(expert), k), 0, num_experts)
    return expert_TK


def _slots(queue_TK: np.ndarray, num_queues: int, kept: np.ndarray | None, slot: np.ndarray | None,
           scores_TK: np.ndarray | None, capacity: int | None, group_size: int,
           config: SwitchConfig) -> np.ndarray:
    """Check `kept` and `slot`; return the slots (T, K), -1 where a choice is not kept."""
    shape, routed_TK = queue_TK.shape, queue_TK < num_queues
    limit = sys.maxsize if capacity is None else min(capacity, sys.maxsize)
    kept_TK = routed_TK
    if kept is not None:
        check.booleans("kept", kept, shape)
        if (kept & ~routed_TK).any():
            raise ValueError("kept must be False for padding, got True")
        kept_TK = kept
    if slot is not None:
        check.integers("slot", slot, shape, *ANYTHING)
        slot_TK = slot.astype(np.int64)
    else:
        slot_TK = serve.assign_slots(np.where(kept_TK, queue_TK, num_queues), num_queues, scores_TK,
                                     capacity if kept is None else None, group_size,
                                     config.conventions)[0]
    if kept is None:
        kept_TK = routed_TK & (slot_TK >= 0)
    wrong_T = (kept_TK & ((slot_TK < 0) | (slot_TK >= limit))).any(axis=1)
    if wrong_T.any():
        token = int(wrong_T.argmax())
        raise ValueError(f"slot must lie in 0 .. {limit - 1} for kept choices, the config's "
                         f"capacity, got {slot_TK[token].tolist()} for token {token}")
    taken = np.column_stack([queue_TK[kept_TK], slot_TK[kept_TK]])
    if len(np.unique(taken, axis=0)) < len(taken):
        raise ValueError("slot must differ within the buffer of a group and expert, got one twice")
    return np.where(kept_TK, slot_TK, -1)
