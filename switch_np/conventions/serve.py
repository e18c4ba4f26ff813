"""The plan under other libraries' conventions: choices, order of service, capacity, counts.

Source: batch-prioritised routing from V-MoE (Riquelme et al., 2021); expert choice from Zhou et al.
(2022), as in Flaxformer; priority by score or gate from DeepSpeed and Megatron; random order from
DeepSpeed and labml. `table` says which option belongs to which library.

Every priority is an order of the choices. Each choice queues for its expert in that order, and its
position in the queue, if below the capacity, is its slot. If experts choose, every token asks all
of them, and the queue goes by score.
"""

from dataclasses import replace

import numpy as np

from switch_np.conventions import balance_counts, choose, renormalise
from switch_np.conventions.noise import Noise
from switch_np.conventions.table import Conventions
from switch_np.operations.queues import largest, queue_positions, stable_order
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan, lay_out


def decide(probs_TE: np.ndarray, logits_TE: np.ndarray, config: SwitchConfig, *,
           num_groups: int = 1, padding_T: np.ndarray | None = None, noise: Noise = Noise(),
           bias_E: np.ndarray | None = None, training: bool = False) -> Plan:
    """Give every token its experts and slots, from the router's output and the config.

    Of `noise`, `gumbel`, `second`, `policy` and `priority` count; `bias_E` is added to the scores
    for the choice alone; the rest is as in `plans.decide`.

    >>> probs = np.array([[.6, .4], [.7, .3], [.9, .1]])
    >>> config = SwitchConfig.like("flaxformer", num_experts=2, capacity=1, priority="batch")
    >>> decide(probs, np.log(probs), config).kept[:, 0].tolist()
    [False, False, True]
    """
    conventions = config.conventions
    score_TE = choose.ranked(probs_TE, logits_TE, conventions, noise, bias_E)
    expert_TK = choose.choose(score_TE, logits_TE, config.num_choices, conventions, noise)
    wanted_TK = choose.wanted(expert_TK, probs_TE, conventions, noise)
    return serve(expert_TK, wanted_TK, probs_TE, logits_TE, config, num_groups=num_groups,
                 padding_T=padding_T, noise=noise, training=training)


def serve(expert_TK: np.ndarray, wanted_TK: np.ndarray, probs_TE: np.ndarray,
          logits_TE: np.ndarray, config: SwitchConfig, *, num_groups: int,
          padding_T: np.ndarray | None, noise: Noise, training: bool) -> Plan:
    """Give slots to choices already made."""
    conventions = config.conventions
    (t, k), g, e = expert_TK.shape, num_groups, config.num_experts
    group_size = t // max(g, 1)
    group_T = np.arange(t) // max(group_size, 1)
    if padding_T is not None and conventions.padding_routing == "left_out":
        wanted_TK = wanted_TK & ~padding_T[:, None]
    capacity = config.expert_capacity(group_size, training)

    queue_TK = np.where(wanted_TK, expert_TK * g + group_T[:, None], e * g)
    key_TK = keys(expert_TK, probs_TE, logits_TE, config, noise)
    order = _order(key_TK, conventions, t, k)
    position = np.empty(t * k, int)
    position[order], length = queue_positions(queue_TK.T.ravel()[order], e * g)
    position_TK = position.reshape(k, t).T
    rivals_TK = np.zeros((t, k), int)
    if capacity is None:
        capacity = int(length.max(initial=0))
    elif key_TK is not None and conventions.priority == "logit_or_zero":    # zeros compete too
        rivals_TK = np.where(key_TK < 0, group_size - np.append(length, 0)[queue_TK], 0)
    kept_TK = wanted_TK & (position_TK + rivals_TK < capacity)
    kept_queue_TK = np.where(kept_TK, queue_TK, e * g)
    if conventions.chooser == "experts":
        length = queue_positions(kept_queue_TK, e * g)[1]
    if conventions.slots == "position":
        position_TK = queue_positions(kept_queue_TK, e * g)[0]
    slot_TK = np.where(kept_TK, position_TK, -1)
    plain = conventions.balance_counts == "plain_over_k"
    plain_TK = largest(probs_TE.real, k) if plain else expert_TK
    counts = balance_counts.counts(expert_TK, kept_TK, plain_TK, group_T, (g, e), padding_T,
                                   conventions, training)
    return from_slots(expert_TK, slot_TK, group_T, length.reshape(e, g).T, capacity, config.layout,
                      *counts)


def from_slots(expert_TK: np.ndarray, slot_TK: np.ndarray, group_T: np.ndarray,
               load_GE: np.ndarray, capacity: int, layout: str, balance_count_GE: np.ndarray,
               balance_tokens_G: np.ndarray) -> Plan:
    """Return the plan of choices whose slots are known: -1 is none, others lie below `capacity`."""
    t, g, e = len(expert_TK), *load_GE.shape
    kt_N = np.flatnonzero(slot_TK.T >= 0)                        # k * T + token
    slot_N = slot_TK.T.take(kt_N)
    queue_N = expert_TK.T.take(kt_N) * g + group_T[kt_N % max(t, 1)]
    order = stable_order(slot_N, slot_N.max(initial=0))
    order = order[stable_order(queue_N[order], e * g)]     # one key could overflow
    return lay_out(expert_TK, kt_N[order], slot_N[order], group_T, load_GE, capacity, layout,
                   balance_count_GE, balance_tokens_G)


def keys(expert_TK: np.ndarray, probs_TE: np.ndarray, logits_TE: np.ndarray, config: SwitchConfig,
         noise: Noise = Noise()) -> np.ndarray | None:
    """Return the numbers (T, K) of which the largest are served first; None: by position."""
    conventions = config.conventions
    chosen_TK: np.ndarray = np.take_along_axis(probs_TE.real, expert_TK, axis=1)
    if conventions.chooser == "experts" or conventions.priority == "gate":
        return chosen_TK
    if conventions.priority == "weight":
        chosen_TK /= weight_sum(chosen_TK, conventions)
        return chosen_TK
    if conventions.priority == "logit_or_zero":
        return np.take_along_axis(logits_TE.real, expert_TK, axis=1)
    if conventions.priority == "batch":
        return np.repeat(chosen_TK[:, :1], expert_TK.shape[1], axis=1)
    return noise.priority if conventions.priority == "random" else None


def weight_sum(chosen_TK: np.ndarray, conventions: Conventions) -> np.ndarray:
    """Return what divides the chosen scores (T, 1) before any drop."""
    before = replace(conventions, renorm="pre") if conventions.renorm == "post" else conventions
    return renormalise.divisor(chosen_TK, np.ones(chosen_TK.shape, bool), before)[0]


def _order(key_TK: np.ndarray | None, conventions: Conventions, t: int, k: int) -> np.ndarray:
    """Return the choices in the order of service; choice k of token t has the number k * T + t."""
    number_KT = np.arange(k * t).reshape(k, t)
    if key_TK is None:
        return (number_KT.T if conventions.priority == "token" else number_KT).ravel()
    choice_N, token_N = np.divmod(number_KT.ravel(), max(t, 1))
    level_N = choice_N if leveled(conventions) else np.zeros(k * t)
    return np.lexsort((token_N, -key_TK.T.ravel(), level_N))


def leveled(conventions: Conventions) -> bool:
    """Whether all first choices go before all second ones, and the key decides within each."""
    return conventions.priority == "batch" and conventions.chooser == "tokens"
