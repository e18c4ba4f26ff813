"""The plan: which expert, which slot, who is dropped. All that is discrete is decided here.

Source: section 2.2 of the paper (expert capacity, equation 3; dropped tokens); for k > 1 the order
is that of the authors' code: first choices fill the buffers before second ones.

A plan holds integers and bools alone. Nothing in it is ever differentiated, and everything after it
is smooth, so a plan can be replayed, or taken from another library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import check
from switch_np.switch.config import SwitchConfig
from switch_np.switch.noise import Noise

MOST_ROWS = 2 ** 40    # of all buffers: more than any memory, and far from overflow


@dataclass(frozen=True, eq=False)
class Plan:
    """Where every token goes. The arrays are read-only.

    Attributes
    ----------
    expert
        (T, K) the experts that a token chose, best first; those of padding count nowhere. Where
        experts choose tokens, all E of them.
    slot
        (T, K) the place in the buffer of (group, expert), -1 where the choice is dropped.
    kept
        (T, K) bool, False where the choice is dropped and where the token is padding.
    token, choice, row
        (N,) of the N kept choices, sorted by expert, group and slot: the token, its choice k, and
        the row that it gets among those handed to the experts.
    start
        (E + 1,) expert e works on the rows start[e] to start[e + 1].
    group
        (T,) the group of a token.
    load
        (G, E) choices per expert before any is dropped.
    capacity
        Slots per group and expert; without a limit, the largest load.
    layout
        "packed": the rows are the kept choices; "buffers": each expert has G * capacity rows, of
        which the unfilled are zeros.
    balance_count, balance_tokens
        (G, E) and (G,): the first choices per expert and the real tokens that the load-balancing
        loss counts; under other libraries' conventions, what theirs counts.
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

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                _frozen(value)

    @property
    def num_rows(self) -> int:
        """R, the number of rows handed to the experts."""
        return int(self.start[-1])

    @cached_property
    def kept_load(self) -> np.ndarray:
        """(G, E) choices per expert that got a slot."""
        g, e = self.load.shape
        buffer_N = self.group[self.token] * e + self.expert[self.token, self.choice]
        return _frozen(np.bincount(buffer_N, minlength=g * e).reshape(g, e))

    @cached_property
    def place(self) -> np.ndarray:
        """(T, K) where a kept choice stands among the N; 0 where the choice is dropped."""
        place_TK = np.zeros(self.expert.shape, int)
        place_TK.put(self.token * place_TK.shape[1] + self.choice, np.arange(len(self.token)))
        return _frozen(place_TK)

    @property
    def dropped_fraction(self) -> float:
        """The share of the real tokens' choices that found no slot; 0 without tokens."""
        wanted = self.load.sum()
        return float(1 - len(self.token) / wanted) if wanted else 0.0


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


class Margins(NamedTuple):
    """How firm a plan's decisions are, per token.

    Attributes
    ----------
    choice
        (T,) the smallest gap between scores that, closed, would change the token's choices or their
        order; infinity where there is but one expert.
    contested
        (T,) bool: an expert that the token chose is over capacity in its group. Whether the token
        is kept then hangs on the choices of others.
    cut
        (T,) how far the token is from the capacity cut where priority goes by score: the gap to the
        nearest choice on the other side; infinity where it goes by position.
    """

    choice: np.ndarray
    contested: np.ndarray
    cut: np.ndarray


def decide(scores_TE: np.ndarray, config: SwitchConfig, *, num_groups: int = 1,
           padding_T: np.ndarray | None = None, training: bool = False) -> Plan:
    """Give every token its experts and slots.

    Parameters
    ----------
    scores_TE
        Whatever ranks the experts of a token: the router's probabilities, or logits with noise.
    config
        Says k, capacity and layout.
    num_groups
        Tokens are cut into this many equal consecutive groups, each with buffers of its own.
    padding_T
        (T,) bool, True where the token is padding: it takes no slot and is not counted.
    training
        Chooses between the two capacity factors.

    Notes
    -----
    At a tie the lowest index wins. Slots are given in the order of choice, then of position. The
    capacity counts all tokens of a group, padding included, as the authors' code does.

    Examples
    --------
    >>> scores = np.array([[.7, .3], [.6, .4], [.2, .8], [.9, .1]])
    >>> plan = decide(scores, SwitchConfig(num_experts=2, capacity_factor=1.0))
    >>> plan.expert[:, 0].tolist(), plan.slot[:, 0].tolist(), plan.dropped_fraction
    ([0, 0, 1, 0], [0, 1, 0, -1], 0.25)
    """
    check.instance("config", config, SwitchConfig)
    if config.foreign:
        raise ValueError("config must have the paper's conventions, got others, by which "
                         "variants.decide.decide goes")
    check.floats("scores_TE", scores_TE, ("T", config.num_experts))
    _check_cut(len(scores_TE), num_groups, padding_T)
    expert_TK = _frozen(largest(scores_TE.real, config.top_k))
    group_size = len(expert_TK) // max(num_groups, 1)
    return fill(expert_TK, config.num_experts, num_groups=num_groups, padding_T=padding_T,
                capacity=config.expert_capacity(group_size, training), layout=config.layout)


def fill(expert_TK: np.ndarray, num_experts: int, *, num_groups: int = 1, capacity: int | None,
         padding_T: np.ndarray | None = None, layout: str = "packed") -> Plan:
    """Give slots to choices already made: the second half of `decide`.

    One stable sort by (expert, group) queues the choices in their order of priority: the place in
    the queue is the slot, and those that have one stand in the order of the rows.

    Examples
    --------
    >>> fill(np.array([[0], [0], [1]]), 2, capacity=1).kept[:, 0].tolist()
    [True, False, True]
    """
    if not isinstance(expert_TK, np.ndarray) or expert_TK.dtype.kind not in "iu" or (
            expert_TK.ndim != 2):
        raise TypeError("expert_TK must be an array (T, K) of whole numbers, got "
                        f"{getattr(expert_TK, 'dtype', type(expert_TK).__name__)} of shape "
                        f"{np.shape(expert_TK)}")
    if capacity is not None:
        check.integer("capacity", capacity, 0)
    check.choice("layout", layout, ["packed", "buffers"])
    _check_cut(len(expert_TK), num_groups, padding_T)
    (t, k), g, e = expert_TK.shape, num_groups, num_experts
    if expert_TK.flags.writeable or expert_TK.dtype != int:
        expert_TK = expert_TK.astype(int)                      # the plan freezes its arrays
    group_T = np.arange(t) // max(t // max(g, 1), 1)
    queue_KT = expert_TK.T * g + group_T                       # all first choices, then all second
    if padding_T is not None:
        queue_KT[:, padding_T] = e * g                         # padding queues behind the last
    order, place, length = _line_up(queue_KT, e * g)
    length = length[:e * g]
    if capacity is None:
        capacity = int(length.max(initial=0))
    fits = place < capacity
    if padding_T is not None:
        fits[length.sum():] = False
    order, place = order[fits], place[fits]
    slot_KT = np.full(queue_KT.shape, -1)
    slot_KT.put(order, place)
    row_N = order
    if layout == "packed":
        row_N = np.arange(len(row_N))
        start = np.zeros(e + 1, int)
        np.minimum(length, min(capacity, t * k)).reshape(e, g).sum(axis=1).cumsum(out=start[1:])
    else:
        start = _buffers(e, g, capacity)
        row_N = queue_KT.take(order) * capacity + place
    load_GE = first_GE = length.reshape(e, g).T
    token_N, choice_N = order, np.zeros_like(order)
    if k > 1:
        choice_N, token_N = np.divmod(order, max(t, 1))
        first_GE = np.bincount(queue_KT[0], minlength=e * g + 1)[:e * g].reshape(e, g).T
    return Plan(expert_TK, slot_KT.T, slot_KT.T >= 0, token_N, choice_N, row_N, start, group_T,
                load_GE, capacity, layout, first_GE, first_GE.sum(axis=1))


def _check_cut(num_tokens: int, num_groups: int, padding_T: np.ndarray | None) -> None:
    """Refuse groups and padding that the tokens do not have."""
    check.integer("num_groups", num_groups, min(num_tokens, 1))
    if num_tokens % max(num_groups, 1):
        raise ValueError(f"num_groups must divide the number of tokens, {num_tokens}, got "
                         f"{num_groups}")
    if padding_T is not None:
        check.booleans("padding_T", padding_T, (num_tokens,))


def from_choices(expert: np.ndarray, config: SwitchConfig, **decisions: Any) -> Plan:
    """Make the plan of decisions taken elsewhere; `replay.from_choices` says how.

    >>> from_choices(np.array([[1], [1]]), SwitchConfig(num_experts=2)).load.tolist()
    [[0, 2]]
    """
    from switch_np.switch import replay

    return replay.from_choices(expert, config, **decisions)


def queue_up(queue: np.ndarray, num_queues: int) -> tuple[np.ndarray, np.ndarray]:
    """Return everyone's place in its queue, shaped like `queue`, and the queues' lengths.

    Whoever comes earlier in `queue` stands further ahead; entries of `num_queues` stand nowhere.

    >>> place, length = queue_up(np.array([1, 0, 1, 1, 2]), 2)
    >>> place[:4].tolist(), length.tolist()
    ([0, 0, 1, 2], [1, 3])
    """
    order, in_order, length = _line_up(queue, num_queues)
    place = np.empty(queue.shape, int)
    place.put(order, in_order)
    return place, length[:num_queues]


def _line_up(queue: np.ndarray, num_queues: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return everyone by queue and priority, their places in that order, and the queues' lengths.

    Last come, with a length of their own, those who stand nowhere.
    """
    order = sort(queue.ravel(), num_queues)
    length = np.bincount(queue.ravel(), minlength=num_queues + 1)
    return order, np.arange(queue.size) - np.repeat(length.cumsum() - length, length), length


def sort(numbers: np.ndarray, highest: int) -> np.ndarray:
    """Return the order that sorts whole numbers from 0 to `highest`, stable.

    NumPy sorts integers of 16 bits or fewer by their digits, several times faster than wide ones.

    >>> sort(np.array([3, 0, 3]), 3).tolist()
    [1, 0, 2]
    """
    return np.argsort(numbers.astype(np.min_scalar_type(highest)), kind="stable")


def assemble(expert_TK: np.ndarray, slot_TK: np.ndarray, group_T: np.ndarray, load_GE: np.ndarray,
             capacity: int, layout: str, balance_count_GE: np.ndarray,
             balance_tokens_G: np.ndarray) -> Plan:
    """Make the plan of choices and slots: a slot of -1 is none, the others lie below `capacity`."""
    g, e = load_GE.shape
    kept_TK = slot_TK >= 0
    kept_N = np.flatnonzero(kept_TK)
    token_N, choice_N = np.divmod(kept_N, kept_TK.shape[1])
    expert_N = expert_TK.take(kept_N)
    queue_N, slot_N = expert_N * g + group_T[token_N], slot_TK.take(kept_N)
    order = sort(slot_N, slot_N.max(initial=0))
    order = order[sort(queue_N[order], e * g)]     # queue * capacity + slot, in one, may overflow
    if layout == "packed":
        start = np.bincount(expert_N + 1, minlength=e + 1).cumsum()
        row_N = np.arange(len(order))
    else:
        start = _buffers(e, g, capacity)
        row_N = (queue_N * capacity + slot_N)[order]
    return Plan(expert_TK, slot_TK, kept_TK, token_N[order], choice_N[order], row_N, start,
                group_T, load_GE, capacity, layout, balance_count_GE, balance_tokens_G)


def _buffers(num_experts: int, num_groups: int, capacity: int) -> np.ndarray:
    """Return where the rows of each expert start, if every slot has one."""
    rows = num_experts * num_groups * capacity
    if rows >= MOST_ROWS:
        raise ValueError(f"capacity must be less than {MOST_ROWS // (num_experts * num_groups)} "
                         f"with layout='buffers', where every slot is a row, got {capacity}; "
                         "layout='packed' has a row for each kept choice alone")
    return np.arange(num_experts + 1) * (num_groups * capacity)


def margins(scores_TE: np.ndarray, plan: Plan, config: SwitchConfig | None = None, *,
            logits_TE: np.ndarray | None = None, padding_T: np.ndarray | None = None,
            bias_E: np.ndarray | None = None, noise: Noise | None = None,
            training: bool = False) -> Margins:
    """Tell how far each token is from another decision, in units of the scores.

    Parameters
    ----------
    scores_TE
        Whatever ranked the experts: probabilities, or logits with noise.
    plan
        The decisions.
    config, logits_TE, padding_T, bias_E, noise, training
        Under other libraries' conventions: the config, and the rest where it decides too.

    Examples
    --------
    >>> scores = np.array([[.7, .3], [.6, .4]])
    >>> found = margins(scores, decide(scores, SwitchConfig(num_experts=2, capacity_factor=1.0)))
    >>> found.choice.round(2).tolist(), found.contested.tolist()
    ([0.4, 0.2], [True, True])
    """
    check.instance("plan", plan, Plan)
    check.floats("scores_TE", scores_TE, (len(plan.expert), plan.load.shape[1]))
    if config is not None:
        check.instance("config", config, SwitchConfig)
    if config is not None and config.foreign:
        from switch_np.switch.variants import margins as others

        return others.margins(scores_TE, plan, config, logits_TE=logits_TE, padding_T=padding_T,
                              bias_E=bias_E, noise=noise or Noise(), training=training)
    ranked = rank(scores_TE.real, plan.expert)
    return Margins((ranked[:, :-1] - ranked[:, 1:]).min(axis=1), contested(plan),
                   np.full(len(plan.expert), np.inf))


def rank(scores_TE: np.ndarray, expert_TK: np.ndarray) -> np.ndarray:
    """Return (T, K + 1): the scores of a token's choices, and the best of the others' scores.

    >>> rank(np.array([[.5, .1, .4]]), np.array([[0]])).tolist()
    [[0.5, 0.4]]
    """
    chosen_TK = np.take_along_axis(scores_TE, expert_TK, axis=1)
    rest_TE = scores_TE.copy()
    np.put_along_axis(rest_TE, expert_TK, -np.inf, axis=1)
    return np.column_stack([chosen_TK, rest_TE.max(axis=1)])


def contested(plan: Plan) -> np.ndarray:
    """Return for each token (T,) whether an expert that it chose is over capacity in its group.

    >>> contested(fill(np.array([[0], [0], [1]]), 2, capacity=1)).tolist()
    [True, True, False]
    """
    over_GE = plan.load > plan.capacity
    return over_GE[plan.group[:, None], plan.expert].any(axis=1)


def check_plan(plan: Plan, config: SwitchConfig, num_tokens: int, num_groups: int,
               padding_T: np.ndarray | None = None) -> None:
    """Refuse a plan that contradicts itself, or that was made for something else than is asked."""
    check.instance("plan", plan, Plan)
    check.integers("plan.load", plan.load, ("G", "E"), 0, np.inf)
    (g, e), n = plan.load.shape, np.size(plan.token)
    check.integers("plan.expert", plan.expert, ("T", "K"), 0, e)
    t, k = plan.expert.shape
    have, want = (t, e, g, k), (num_tokens, config.num_experts, num_groups, config.num_choices)
    if have != want:
        raise ValueError("plan must be for {} tokens, {} experts, {} group(s) and {} choice(s) per "
                         "token, got one for {}, {}, {} and {}".format(*want, *have))
    check.integer("plan.capacity", plan.capacity, 0)
    check.choice("plan.layout", plan.layout, ["packed", "buffers"])
    check.integers("plan.slot", plan.slot, (t, k), -1, np.inf)
    check.booleans("plan.kept", plan.kept, (t, k))
    check.integers("plan.group", plan.group, (t,), 0, g)
    check.integers("plan.start", plan.start, (e + 1,), 0, np.inf)
    check.integers("plan.balance_count", plan.balance_count, (g, e), 0, np.inf)
    check.integers("plan.balance_tokens", plan.balance_tokens, (g,), 0, np.inf)
    check.integers("plan.token", plan.token, (n,), 0, max(t, 1))
    check.integers("plan.choice", plan.choice, (n,), 0, k)
    check.integers("plan.row", plan.row, (n,), 0, plan.num_rows)
    if plan.layout == "packed" and plan.num_rows != n:
        raise ValueError(f"plan.start must end with the number of kept choices, {n}, with "
                         f"layout='packed', got {plan.num_rows}")
    twice = (np.diff(np.sort(plan.expert, axis=1), axis=1) == 0).any(axis=1)
    if twice.any():
        token = int(twice.argmax())
        raise ValueError(f"plan.expert must name an expert once per token, got "
                         f"{plan.expert[token].tolist()} for token {token}")
    owner_N = plan.expert[plan.token, plan.choice]
    if ((plan.row < plan.start[owner_N]) | (plan.row >= plan.start[owner_N + 1])).any():
        raise ValueError("plan.row must lie among the rows of the chosen expert, got one outside")
    if (np.diff(plan.row) <= 0).any():
        raise ValueError("plan.row must rise, one row for each kept choice, got one twice or late")
    kept_TK = np.zeros((t, k), bool)
    kept_TK[plan.token, plan.choice] = True
    if (kept_TK != plan.kept).any():
        raise ValueError("plan.kept must be True just for the choices listed in plan.token and "
                         "plan.choice, got another pattern")
    _check_padding(plan, config, padding_T)


def _check_padding(plan: Plan, config: SwitchConfig, padding_T: np.ndarray | None) -> None:
    """Refuse a plan that was made for other padding."""
    rules = config.conventions
    real_T = np.ones(len(plan.group), bool) if padding_T is None else ~padding_T
    lost_T = ~real_T & plan.kept.any(axis=1)
    if rules.padding_routing == "left_out" and lost_T.any():
        raise ValueError(f"plan must keep no choice of padding, which is not routed here, got one "
                         f"that keeps token {lost_T.argmax()}")
    counted_T = real_T if rules.balance_padding == "mask_valid" else np.ones_like(real_T)
    tokens = np.bincount(plan.group[counted_T], minlength=len(plan.load))
    if (plan.balance_tokens != tokens).any():
        raise ValueError(f"plan must be for the same padding: plan.balance_tokens must be {tokens},"
                         f" the tokens that the balance loss counts, got {plan.balance_tokens}")


def largest(scores_TE: np.ndarray, k: int) -> np.ndarray:
    """Return the indices (T, K) of the k largest scores, best first, the lowest at a tie.

    >>> largest(np.array([[1.0, 3.0, 3.0]]), 2).tolist()
    [[1, 2]]
    """
    if k == 1:
        return scores_TE.argmax(axis=1)[:, None]
    return np.argsort(-scores_TE, axis=1, kind="stable")[:, :k]
