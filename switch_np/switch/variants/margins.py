"""How firm decisions are under other libraries' rules, per token.

A margin is the smallest change of what was compared that would decide otherwise, counted so that
no decision can change while every score moves by less than half of it.

choice:  the gaps between the chosen scores and the best other one; with groups of experts also half
         the gap between the last group taken and the first left out (two scores each side move);
         with a policy for later choices also the distance to the threshold.
cut:     where priority goes by score, the gap to the nearest choice of the same queue on the other
         side of the capacity cut; with batch-prioritised routing only choices of the same rank
         compete for the last slots. Infinity where nothing is cut, or position decides.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from switch_np.switch.config import SwitchConfig
from switch_np.switch.noise import Noise
from switch_np.switch.plan import Margins, Plan, contested, rank
from switch_np.switch.variants import choices, decide


def margins(probs_TE: np.ndarray, plan: Plan, config: SwitchConfig, *,
            logits_TE: np.ndarray | None = None, padding_T: np.ndarray | None = None,
            bias_E: np.ndarray | None = None, noise: Noise = Noise(),
            training: bool = False) -> Margins:
    """Return the margins of a plan, in units of the scores.

    Parameters
    ----------
    probs_TE, logits_TE
        What the router says; without logits they are taken to be log p.
    plan, config
        The decisions, and the rules behind them.
    padding_T, bias_E, noise, training
        Padding, the selection bias, the noise that took part, and which capacity factor held.

    Examples
    --------
    >>> probs = np.array([[.6, .4], [.7, .3], [.9, .1]])
    >>> config = SwitchConfig.like("flaxformer", num_experts=2, capacity=2, priority="batch")
    >>> margins(probs, decide.decide(probs, np.log(probs), config), config).cut.round(2).tolist()
    [0.1, 0.1, 0.3]
    """
    rules = config.conventions
    k = plan.expert.shape[1]
    for name, value, knob, asked in (
            ("bias_E", bias_E, "select_bias", rules.select_bias),
            ("noise.second", noise.second, "second_choice",
             rules.second_choice == "sampled" and k > 1),
            ("noise.policy", noise.policy, "second_policy", rules.second_policy == "random")):
        if asked and value is None:
            raise ValueError(f"{name} must be given with {knob}={getattr(rules, knob)!r}, got None")
    logits_TE = np.log(probs_TE.real) if logits_TE is None else logits_TE.real
    t = len(probs_TE)
    if rules.chooser == "experts":
        choice_T = np.full(t, np.inf)
    else:
        choice_T = _choice(probs_TE.real, logits_TE, plan, config, bias_E, noise)
    key_TK = decide.keys(plan.expert, probs_TE, logits_TE, config, noise)
    queued_TK = choices.wanted(plan.expert, probs_TE, rules, noise) | plan.kept
    if padding_T is not None and rules.padding_routing == "left_out":
        queued_TK &= ~padding_T[:, None]
    cut_T = np.full(t, np.inf)
    if key_TK is not None and config.expert_capacity(t // max(len(plan.load), 1), training):
        cut_T = _cut(key_TK, queued_TK, plan, config)
        if rules.priority == "weight":                     # a score moves its weight by more
            cut_T *= decide.weight_sum(
                np.take_along_axis(probs_TE.real, plan.expert, axis=1), rules).min(initial=1) / 2
    return Margins(choice_T, contested(plan), cut_T)


def _choice(probs_TE: np.ndarray, logits_TE: np.ndarray, plan: Plan, config: SwitchConfig,
            bias_E: np.ndarray | None, noise: Noise) -> np.ndarray:
    rules, k = config.conventions, plan.expert.shape[1]
    score_TE = choices.ranked(probs_TE, logits_TE, rules, noise, bias_E)
    if rules.second_choice == "sampled" and k > 1:
        first = rank(score_TE, plan.expert[:, :1])
        later_TE = logits_TE + noise.second
        np.put_along_axis(later_TE, plan.expert[:, :1], -np.inf, axis=1)
        later = rank(later_TE, plan.expert[:, 1:])
        gaps = [first[:, :1] - first[:, 1:], later[:, :-1] - later[:, 1:]]
    else:
        ranked = rank(score_TE, plan.expert)
        closed = np.isneginf(ranked[:, :-1])               # a replayed choice from a closed group
        gaps = [ranked[:, :-1] - np.where(closed, 0, ranked[:, 1:])]
    if rules.select_groups > rules.select_groups_kept:
        open_TE = choices.ranked(probs_TE, logits_TE, replace(rules, select_groups=1,
                                                              select_groups_kept=1), noise, bias_E)
        together = -np.sort(-choices.group_scores(open_TE, rules.select_groups), axis=1)
        kept = rules.select_groups_kept
        gaps.append((together[:, kept - 1:kept] - together[:, kept:kept + 1]) / 2)
    if rules.second_policy in ("threshold", "random"):
        gate_TK = choices.held_against(plan.expert, probs_TE, rules)[:, 1:]
        level = rules.second_threshold
        if rules.second_policy == "random":
            level = noise.policy * max(level, 1e-9)
        gaps.append(abs(gate_TK - level))
    return np.concatenate(gaps, axis=1).min(axis=1)


def _cut(key_TK: np.ndarray, queued_TK: np.ndarray, plan: Plan,
         config: SwitchConfig) -> np.ndarray:
    (t, k), (g, e) = key_TK.shape, plan.load.shape
    level_K = np.arange(k) if decide.leveled(config.conventions) else np.zeros(k, int)
    queue_TK = (level_K * e + plan.expert) * g + plan.group[:, None]
    dropped_TK = queued_TK & ~plan.kept
    best_dropped, worst_kept = np.full(k * e * g, -np.inf), np.full(k * e * g, np.inf)
    np.maximum.at(best_dropped, queue_TK[dropped_TK], key_TK[dropped_TK])
    np.minimum.at(worst_kept, queue_TK[plan.kept], key_TK[plan.kept])
    if config.conventions.priority == "logit_or_zero":
        queue = queue_TK[queued_TK]
        absent = t // max(g, 1) - np.bincount(queue, minlength=k * e * g)
        ahead = np.bincount(queue[key_TK[queued_TK] > 0], minlength=k * e * g)
        inside = np.clip(min(plan.capacity, t) - ahead, 0, absent)
        best_dropped = np.where(absent > inside, np.maximum(best_dropped, 0), best_dropped)
        worst_kept = np.where(inside > 0, np.minimum(worst_kept, 0), worst_kept)
    cut_TK = np.full(key_TK.shape, np.inf)
    cut_TK[plan.kept] = (key_TK - best_dropped[queue_TK])[plan.kept]
    cut_TK[dropped_TK] = (worst_kept[queue_TK] - key_TK)[dropped_TK]
    return cut_TK.min(axis=1)

