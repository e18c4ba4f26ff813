"""The plan: which expert, which slot, who is dropped. All discrete decisions are made here.

Source: section 2.2 of the paper (expert capacity, equation 3; dropped tokens; the counts of
equation 5); for k > 1 first choices fill the buffers before second ones, as in the authors' code.
Appendix B, no token left behind: a token whose expert is full goes on to its next best one.

No gradient flows through a plan, and nothing after it is chosen anew, so a plan can be replayed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from switch_np.operations.queues import largest, sort_into_queues
from switch_np.switch.config import SwitchConfig


@dataclass(frozen=True, eq=False)
class Plan:
    """Where every token goes, as read-only arrays of integers and bools.

    Per choice (T, K): `expert`, best first; `slot`, the position in the buffer of its group and
    expert, -1 if dropped; `kept`. Per kept choice (N,), sorted by expert, group and slot: `token`,
    `choice` (its k) and `row`. `start` (E + 1,): expert e has rows start[e] to start[e + 1] - 1.
    `group` (T,): the token's group. `load` (G, E): choices before dropping. `capacity`: slots per
    group and expert. `layout`: "packed" has a row per kept choice, "buffers" one per slot, filled
    or not. The balance loss counts `balance_count` (G, E) first choices of `balance_tokens` (G,).
    """

    expert: np.ndarray
    slot: np.ndarray
    kept: np.ndarray
    token: np.ndarray
    choice: np.ndarray
    row: np.ndarray
    start: np.ndarray
    group: np.ndarray
    load: np.ndarray
    capacity: int
    layout: str
    balance_count: np.ndarray
    balance_tokens: np.ndarray

    @property
    def num_rows(self) -> int:
        """R, the number of the experts' rows."""
        return int(self.start[-1])

    @property
    def dropped_fraction(self) -> float:
        """The share of the real tokens' choices that were dropped; 0 without any."""
        return float(1 - len(self.token) / self.load.sum()) if self.load.any() else 0.0

    @cached_property
    def kept_load(self) -> np.ndarray:
        """(G, E) choices per expert that got a slot."""
        kept_GE = np.zeros_like(self.load)
        np.add.at(kept_GE, (self.group[self.token], self.expert[self.token, self.choice]), 1)
        kept_GE.flags.writeable = False
        return kept_GE

    @cached_property
    def row_of_choice(self) -> np.ndarray:
        """(T, K) the row of each choice, -1 if it is dropped."""
        tk_N = self.token * self.expert.shape[1] + self.choice
        return _placed(self.expert.size, tk_N, self.row).reshape(self.expert.shape)

    @cached_property
    def choice_of_row(self) -> np.ndarray:
        """(R,) flat index token · K + k of the choice in each row, -1 if the row is empty."""
        tk_N = self.token * self.expert.shape[1] + self.choice
        return _placed(self.num_rows, self.row, tk_N)

    @cached_property
    def token_of_row(self) -> np.ndarray:
        """(R,) the token in each row, -1 if the row is empty."""
        return _placed(self.num_rows, self.row, self.token)


def _placed(length: int, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    placed = np.full(length, -1)                       # where no value is placed
    placed[index] = values
    placed.flags.writeable = False
    return placed


def decide(scores_TE: np.ndarray, config: SwitchConfig, num_groups: int = 1,
           padding_T: np.ndarray | None = None, training: bool = False) -> Plan:
    """Give every token the experts with the largest scores (probabilities, or noisy logits)."""
    capacity = config.expert_capacity(len(scores_TE) // max(num_groups, 1), training)
    if config.tries != 1:
        return pass_on(largest(scores_TE.real, config.num_tries), config.num_experts, num_groups,
                       capacity, padding_T, config.layout)
    expert_TK = largest(scores_TE.real, config.top_k)
    return fill(expert_TK, config.num_experts, num_groups, capacity, padding_T, config.layout)


def fill(expert_TK: np.ndarray, num_experts: int, num_groups: int = 1, capacity: int | None = None,
         padding_T: np.ndarray | None = None, layout: str = "packed") -> Plan:
    """Give slots to given choices, first choices first; `capacity` None keeps them all."""
    t, g, e = len(expert_TK), num_groups, num_experts
    expert_TK = expert_TK.astype(int)                          # a copy: plans are read-only
    group_T = np.arange(g).repeat(t // max(g, 1))              # g is 0 for an empty batch
    queue_KT = expert_TK.T * g + group_T                       # in order of service
    if padding_T is not None:
        queue_KT[:, padding_T] = e * g                         # padding joins no queue
    kt, position, length = sort_into_queues(queue_KT, e * g)      # choices as k · T + token
    capacity = int(length.max(initial=0)) if capacity is None else capacity
    fits = position < capacity
    first_EG = np.bincount(queue_KT[0], minlength=e * g + 1)[:-1].reshape(e, g)  # without padding
    return lay_out(expert_TK, kt[fits], position[fits], group_T, length.reshape(e, g).T, capacity,
                   layout, first_EG.T, first_EG.sum(axis=0))


def pass_on(ranked_TK: np.ndarray, num_experts: int, num_groups: int, capacity: int | None,
            padding_T: np.ndarray | None, layout: str) -> Plan:
    """Give each token the first of its experts, best first, that has a free slot (appendix B).

    If one expert is full, a token asks the next, behind all with a slot. Load and f count the best.
    """
    first = fill(ranked_TK[:, :1], num_experts, num_groups, capacity, padding_T, layout)
    expert_T, slot_T, none = ranked_TK[:, 0].copy(), first.slot[:, 0].copy(), first.load.size
    waits_T = slot_T < 0 if padding_T is None else (slot_T < 0) & ~padding_T
    taken_Q = np.minimum(first.load, first.capacity).T.ravel()       # a queue per expert and group
    for next_T in ranked_TK[:, 1:].T:
        queue_T = np.where(waits_T, next_T * num_groups + first.group, none)
        token_N, position_N, length_Q = sort_into_queues(queue_T, none)
        slot_N = taken_Q[queue_T[token_N]] + position_N
        token_N, slot_N = token_N[slot_N < first.capacity], slot_N[slot_N < first.capacity]
        expert_T[token_N], slot_T[token_N], waits_T[token_N] = next_T[token_N], slot_N, False
        taken_Q = np.minimum(taken_Q + length_Q, first.capacity)
    token_N = np.flatnonzero(slot_T >= 0)
    token_N = token_N[np.lexsort((slot_T[token_N], first.group[token_N], expert_T[token_N]))]
    return lay_out(expert_T[:, None], token_N, slot_T[token_N], first.group, first.load,
                   first.capacity, layout, first.balance_count, first.balance_tokens)


def lay_out(expert_TK: np.ndarray, kt_N: np.ndarray, slot_N: np.ndarray, group_T: np.ndarray,
            load_GE: np.ndarray, capacity: int, layout: str, balance_count_GE: np.ndarray,
            balance_tokens_G: np.ndarray) -> Plan:
    """Assign rows to the kept choices, given as k · T + token in order of expert, group, slot."""
    (t, k), (g, e) = expert_TK.shape, load_GE.shape
    choice_N, token_N = np.divmod(kt_N, max(t, 1))
    tk_N = token_N * k + choice_N
    expert_N = expert_TK.take(tk_N)
    if layout == "packed":
        start, row_N = np.bincount(expert_N + 1, minlength=e + 1).cumsum(), np.arange(len(slot_N))
    else:
        start = np.arange(e + 1) * (g * capacity)
        row_N = start[expert_N] + group_T[token_N] * capacity + slot_N
    slot_TK = _placed(t * k, tk_N, slot_N).reshape(t, k)
    plan = Plan(expert_TK, slot_TK, slot_TK >= 0, token_N, choice_N, row_N, start, group_T, load_GE,
                capacity, layout, balance_count_GE, balance_tokens_G)
    for value in vars(plan).values():
        np.asarray(value).flags.writeable = False
    return plan
