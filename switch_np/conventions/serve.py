"""The plan under other libraries' conventions: choices, priority, capacity, counts.

Source: batch-prioritised routing from V-MoE (Riquelme et al., 2021); expert choice from Zhou et al.
(2022), as in Flaxformer; priority by score or gate from DeepSpeed and Megatron; random priority
from DeepSpeed and labml. `table` says which library needs which knob.

Choices are sorted by priority and queue for their experts in that order; a choice's position in the
queue is its slot, if it is below the capacity. Where experts choose, every token queues for all of
them, sorted by score.
"""

from dataclasses import replace

import numpy as np

from switch_np.conventions import choose, renormalise
from switch_np.conventions.noise import Noise
from switch_np.conventions.table import Conventions
from switch_np.operations.precision import round_to
from switch_np.operations.queues import largest, queue_positions, stable_order
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan, lay_out, pass_on


def decide(probs_TE: np.ndarray, logits_TE: np.ndarray, config: SwitchConfig, *,
           num_groups: int = 1, padding_T: np.ndarray | None = None, noise: Noise = Noise(),
           bias_E: np.ndarray | None = None, training: bool = False) -> Plan:
    """Give every token its experts and slots; `bias_E` is added to the scores for the choice only.

    >>> probs = np.array([[.6, .4], [.7, .3], [.9, .1]])
    >>> config = SwitchConfig.like("flaxformer", num_experts=2, capacity=1, priority="batch")
    >>> decide(probs, np.log(probs), config).kept[:, 0].tolist()
    [False, False, True]
    """
    conventions = config.conventions
    score_TE = choose.ranked(probs_TE, logits_TE, conventions, noise, bias_E)
    if config.num_tries > 1:
        left_out_T = padding_T if conventions.padding_routing == "left_out" else None
        capacity = config.expert_capacity(len(probs_TE) // max(num_groups, 1), training)
        plan = pass_on(largest(score_TE, config.num_tries), config.num_experts, num_groups,
                       capacity, left_out_T, config.layout)
        return recount(plan, probs_TE, padding_T, config, training)
    expert_TK = choose.choose(score_TE, logits_TE, config.num_choices, conventions, noise)
    wanted_TK = choose.wanted(expert_TK, probs_TE, conventions, noise)
    return serve(expert_TK, wanted_TK, probs_TE, logits_TE, config, num_groups=num_groups,
                 padding_T=padding_T, noise=noise, training=training)


def serve(expert_TK: np.ndarray, wanted_TK: np.ndarray, probs_TE: np.ndarray,
          logits_TE: np.ndarray, config: SwitchConfig, *, num_groups: int,
          padding_T: np.ndarray | None, noise: Noise, training: bool) -> Plan:
    """Give slots to choices already made; `wanted_TK` says which are used."""
    conventions = config.conventions
    (t, k), g, e = expert_TK.shape, num_groups, config.num_experts
    group_size, group_T = t // max(g, 1), group_of(t, g)
    if padding_T is not None and conventions.padding_routing == "left_out":
        wanted_TK = wanted_TK & ~padding_T[:, None]
    queue_TK = np.where(wanted_TK, expert_TK * g + group_T[:, None], e * g)
    slot_TK, length, capacity = assign_slots(
        queue_TK, e * g, keys(expert_TK, probs_TE, logits_TE, config, noise),
        config.expert_capacity(group_size, training), group_size, conventions)
    plain_TK = largest(probs_TE.real, k) if conventions.counts_plain else None
    return from_slots(expert_TK, slot_TK, group_T, length.reshape(e, g).T, capacity, config,
                      padding_T, training, plain_TK)


def assign_slots(queue_TK: np.ndarray, num_queues: int, key_TK: np.ndarray | None,
                 capacity: int | None, group_size: int,
                 conventions: Conventions) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the slots (T, K), -1 for none, the queues' lengths, and the capacity.

    `queue_TK` names each choice's queue, `num_queues` for none; the largest keys come first.

    >>> queue, theirs = np.array([[0, 1], [1, 0]]), Conventions(priority="token")
    >>> assign_slots(queue, 2, None, 1, 2, theirs)[0].tolist()
    [[0, 0], [-1, -1]]
    """
    t, k = queue_TK.shape
    order = _order(key_TK, conventions, t, k)
    position = np.empty(t * k, int)
    position[order], length = queue_positions(queue_TK.T.ravel()[order], num_queues)
    position_TK = position.reshape(k, t).T
    rivals_TK = np.zeros((t, k), int)
    if capacity is None:
        capacity = int(length.max(initial=0))
    elif key_TK is not None and conventions.priority == "logit_or_zero":     # zeros compete too
        rivals_TK = np.where(key_TK < 0, group_size - np.append(length, 0)[queue_TK], 0)
    kept_TK = (queue_TK < num_queues) & (position_TK + rivals_TK < capacity)
    if conventions.chooser == "experts":
        length = queue_positions(np.where(kept_TK, queue_TK, num_queues), num_queues)[1]
    if conventions.slots == "position":
        position_TK = queue_positions(np.where(kept_TK, queue_TK, num_queues), num_queues)[0]
    return np.where(kept_TK, position_TK, -1), length, capacity


def from_slots(expert_TK: np.ndarray, slot_TK: np.ndarray, group_T: np.ndarray, load_GE: np.ndarray,
               capacity: int, config: SwitchConfig, padding_T: np.ndarray | None, training: bool,
               plain_TK: np.ndarray | None = None) -> Plan:
    """Return the plan of choices whose slots are known; -1 is a dropped choice.

    `plain_TK` are the K best scores without bias, groups and noise, if they are not the choices.
    """
    t, g, e = len(expert_TK), *load_GE.shape
    counts = balance_counts(expert_TK, slot_TK >= 0, expert_TK if plain_TK is None else plain_TK,
                            (g, e), padding_T, config.conventions, training)
    kt_N = np.flatnonzero(slot_TK.T >= 0)                        # k * T + token
    slot_N = slot_TK.T.take(kt_N)
    queue_N = expert_TK.T.take(kt_N) * g + group_T[kt_N % max(t, 1)]
    order = stable_order(slot_N, slot_N.max(initial=0))
    order = order[stable_order(queue_N[order], e * g)]     # one key could overflow
    return lay_out(expert_TK, kt_N[order], slot_N[order], group_T, load_GE, capacity, config.layout,
                   *counts)


def balance_counts(expert_TK: np.ndarray, kept_TK: np.ndarray, plain_TK: np.ndarray,
                   shape: tuple[int, int], padding_T: np.ndarray | None,
                   conventions: Conventions, training: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return what f counts in the balance loss (G, E), and the tokens that it is divided by (G,).

    `plain_TK` are the K best scores without bias, groups and noise; `shape` is (G, E) of the
    buffers. The loss may have other groups; where f is given, every count is 1.

    >>> chosen, kept = np.array([[0], [1], [1]]), np.array([[True], [True], [False]])
    >>> theirs = Conventions(balance_drops="post_as_0")
    >>> balance_counts(chosen, kept, chosen, (1, 2), None, theirs, True)[0].tolist()
    [[2, 1]]
    """
    t, e = len(expert_TK), shape[1]
    g = conventions.loss_groups(shape[0], t)
    group_T = group_of(t, g)
    real_T = np.ones(t, bool) if padding_T is None else ~padding_T
    valid = conventions.balance_padding == "mask_valid"
    tokens_G = np.bincount(group_T[real_T] if valid else group_T, minlength=g)
    if conventions.balance_counts == "none" or (
            conventions.balance_when == "training" and not training):
        return np.zeros((g, e), int), tokens_G
    if conventions.balance_counts == "given":
        return np.ones((g, e), int), tokens_G
    counted = plain_TK if conventions.counts_plain else expert_TK
    seen = kept_TK if conventions.balance_drops == "post" else np.ones(counted.shape, bool)
    if conventions.balance_drops == "post_as_0":
        counted = np.where(kept_TK, counted, 0)
    if conventions.balance_padding not in ("include", "mask_p", "real_fraction"):
        seen = seen & real_T[:, None]
    if conventions.balance_counts == "first":
        counted, seen = counted[:, :1], seen[:, :1]
    queue_N = (group_T[:, None] * e + counted)[seen]
    return np.bincount(queue_N, minlength=g * e).reshape(g, e), tokens_G


def recount(plan: Plan, scores_TE: np.ndarray, padding_T: np.ndarray | None,
            config: SwitchConfig, training: bool) -> Plan:
    """Return the plan with counts of the best of these scores, if the balance loss counts those."""
    if not config.counts_scores:
        return plan
    best_TK = largest(scores_TE.real, max(plan.expert.shape[1], config.num_tries))
    count_GE, tokens_G = balance_counts(
        plan.expert if config.num_tries == 1 else best_TK, plan.kept, best_TK, plan.load.shape,
        padding_T, config.conventions, training)
    return replace(plan, balance_count=count_GE, balance_tokens=tokens_G)


def group_of(num_tokens: int, num_groups: int) -> np.ndarray:
    """Return the group (T,) of each token; groups are equal and consecutive."""
    return np.arange(num_tokens) // max(num_tokens // max(num_groups, 1), 1)


def keys(expert_TK: np.ndarray, probs_TE: np.ndarray, logits_TE: np.ndarray, config: SwitchConfig,
         noise: Noise = Noise()) -> np.ndarray | None:
    """Return the keys (T, K), the largest of which are served first; None: by position."""
    conventions = config.conventions
    chosen_TK: np.ndarray = np.take_along_axis(probs_TE.real, expert_TK, axis=1)
    if conventions.chooser == "experts" and conventions.select_precision != "same":
        return round_to(chosen_TK, conventions.select_precision)
    if conventions.chooser == "experts" or conventions.priority == "gate":
        return chosen_TK
    if conventions.priority == "weight":
        return np.asarray(chosen_TK / weight_sum(chosen_TK, conventions))
    if conventions.priority == "logit_or_zero":
        return np.take_along_axis(logits_TE.real, expert_TK, axis=1)
    if conventions.priority == "batch":
        return np.repeat(chosen_TK[:, :1], expert_TK.shape[1], axis=1)
    return noise.priority if conventions.priority == "random" else None


def weight_sum(chosen_TK: np.ndarray, conventions: Conventions) -> np.ndarray:
    """Return the divisor (T, 1) of the chosen scores before any is dropped."""
    before = replace(conventions, renorm="pre") if conventions.renorm == "post" else conventions
    return renormalise.divisor(chosen_TK, np.ones(chosen_TK.shape, bool), before)[0]


def _order(key_TK: np.ndarray | None, conventions: Conventions, t: int, k: int) -> np.ndarray:
    """Return the choices in order of priority; choice k of token t has the number k * T + t."""
    number_KT = np.arange(k * t).reshape(k, t)
    if key_TK is None:
        return (number_KT.T if conventions.priority == "token" else number_KT).ravel()
    choice_N, token_N = np.divmod(number_KT.ravel(), max(t, 1))
    rank_N = choice_N if by_rank(conventions) else np.zeros(k * t)
    return np.lexsort((token_N, -key_TK.T.ravel(), rank_N))


def by_rank(conventions: Conventions) -> bool:
    """Return whether first choices are served before second ones, each sorted by key."""
    return conventions.priority == "batch" and conventions.chooser == "tokens"
