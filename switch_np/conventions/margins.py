"""How close decisions were, per token.

A margin is the smallest change of what was compared that would decide otherwise, defined such that
no decision can change while every score moves by less than half of it.

choice:  the gaps between the chosen scores and the best other one; with groups of experts also half
         the gap between the last group taken and the first left out (two scores move on each side);
         with a policy for later choices also the distance to its threshold.
cut:     where priority goes by score, the gap to the nearest choice of the same queue on the other
         side of the capacity cut; with batch-prioritised routing only choices of the same rank
         compete for the last slots. Infinity where nothing is cut, or position decides.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from switch_np.conventions import choose, serve
from switch_np.conventions.noise import Noise
from switch_np.conventions.table import Conventions
from switch_np.operations import check
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


class Margins(NamedTuple):
    """How close a plan's decisions were, per token (T,).

    `choice`: the smallest gap between scores that, if closed, would change the token's choices or
    their order; infinity with a single expert. `contested`, bool: an expert that the token chose is
    over capacity in its group, so other tokens' choices decide whether it is kept. `cut`: how far
    the token is from the capacity cut, where priority goes by score; otherwise infinity.
    """

    choice: np.ndarray
    contested: np.ndarray
    cut: np.ndarray


def margins(scores_TE: np.ndarray, plan: Plan, config: SwitchConfig = SwitchConfig(), *,
            logits_TE: np.ndarray | None = None, padding_T: np.ndarray | None = None,
            bias_E: np.ndarray | None = None, noise: Noise | None = None,
            training: bool = False) -> Margins:
    """Return how far each token was from another decision, in units of the scores.

    Parameters
    ----------
    scores_TE
        What ranked the experts: probabilities; in the paper's conventions also logits with noise.
    plan
        The decisions.
    config, logits_TE, padding_T, bias_E, noise, training
        Under other libraries' conventions: the config, and the rest where it decides too; without
        logits, they are taken to be log p.

    Examples
    --------
    >>> from switch_np.plans import decide
    >>> scores = np.array([[.7, .3], [.6, .4]])
    >>> found = margins(scores, decide(scores, SwitchConfig(num_experts=2, capacity_factor=1.0)))
    >>> found.choice.round(2).tolist(), found.contested.tolist()
    ([0.4, 0.2], [True, True])
    >>> probs = np.array([[.6, .4], [.7, .3], [.9, .1]])
    >>> config = SwitchConfig.like("flaxformer", num_experts=2, capacity=2, priority="batch")
    >>> margins(probs, serve.decide(probs, np.log(probs), config), config).cut.round(2).tolist()
    [0.1, 0.1, 0.3]
    """
    check.instance("plan", plan, Plan)
    check.instance("config", config, SwitchConfig)
    t, k = plan.expert.shape
    check.floats("scores_TE", scores_TE, (t, plan.load.shape[1]))
    conventions, noise = config.conventions, noise or Noise()
    for name, value, knob, asked in (
            ("bias_E", bias_E, "select_bias", conventions.select_bias),
            ("noise.second", noise.second, "second_choice",
             conventions.second_choice == "sampled" and k > 1),
            ("noise.policy", noise.policy, "second_policy",
             conventions.second_policy == "random")):
        if asked and value is None:
            raise ValueError(f"{name} must be given with {knob}={getattr(conventions, knob)!r}, "
                             "got None")
    if logits_TE is None:
        with np.errstate(divide="ignore", invalid="ignore"):
            logits_TE = np.log(scores_TE.real)
    choice_T, cut_T = np.full((2, t), np.inf)
    if conventions.chooser == "tokens":
        choice_T = _choice(scores_TE.real, logits_TE.real, plan, conventions, bias_E, noise)
    key_TK = serve.keys(plan.expert, scores_TE, logits_TE, config, noise)
    queued_TK = choose.wanted(plan.expert, scores_TE, conventions, noise) | plan.kept
    if padding_T is not None and conventions.padding_routing == "left_out":
        queued_TK &= ~padding_T[:, None]
    if key_TK is not None and config.expert_capacity(t // max(len(plan.load), 1), training):
        cut_T = _cut(key_TK, queued_TK, plan, config)
        if conventions.priority == "weight":                # a score moves its weight by more
            chosen_TK = np.take_along_axis(scores_TE.real, plan.expert, axis=1)
            cut_T *= serve.weight_sum(chosen_TK, conventions).min(initial=1) / 2
    return Margins(choice_T, contested(plan), cut_T)


def contested(plan: Plan) -> np.ndarray:
    """Return for each token (T,) whether an expert that it chose is over capacity in its group.

    >>> from switch_np.switch.plan import fill
    >>> contested(fill(np.array([[0], [0], [1]]), 2, capacity=1)).tolist()
    [True, True, False]
    """
    over_GE = plan.load > plan.capacity
    contested_T: np.ndarray = over_GE[plan.group[:, None], plan.expert].any(axis=1)
    return contested_T


def _rank(scores_TE: np.ndarray, expert_TK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, both (T, K), the scores of a token's choices, and of the runner-up to each."""
    chosen_TK = np.take_along_axis(scores_TE, expert_TK, axis=1)
    rest_TE = scores_TE.copy()
    np.put_along_axis(rest_TE, expert_TK, -np.inf, axis=1)
    return chosen_TK, np.column_stack([chosen_TK[:, 1:], rest_TE.max(axis=1)])


def _choice(probs_TE: np.ndarray, logits_TE: np.ndarray, plan: Plan, conventions: Conventions,
            bias_E: np.ndarray | None, noise: Noise) -> np.ndarray:
    """Return how far each token (T,) is from another choice."""
    score_TE = choose.ranked(probs_TE, logits_TE, conventions, noise, bias_E)
    if conventions.second_choice == "sampled" and plan.expert.shape[1] > 1:
        first_TK, later_TK = plan.expert[:, :1], plan.expert[:, 1:]
        later_TE = logits_TE + noise.second
        np.put_along_axis(later_TE, first_TK, -np.inf, axis=1)
        gaps = [np.subtract(*_rank(score_TE, first_TK)), np.subtract(*_rank(later_TE, later_TK))]
    else:
        chosen_TK, next_TK = _rank(score_TE, plan.expert)
        closed_TK = np.isneginf(chosen_TK)                 # a replayed choice from a closed group
        gaps = [chosen_TK - np.where(closed_TK, 0, next_TK)]
    if conventions.select_groups > conventions.select_groups_kept:
        ungrouped = replace(conventions, select_groups=1, select_groups_kept=1)
        all_TE = choose.ranked(probs_TE, logits_TE, ungrouped, noise, bias_E)
        sums = -np.sort(-choose.group_scores(all_TE, conventions.select_groups), axis=1)
        kept = conventions.select_groups_kept
        gaps.append((sums[:, kept - 1:kept] - sums[:, kept:kept + 1]) / 2)
    if conventions.second_policy in ("threshold", "random"):
        threshold, level = conventions.second_threshold, np.array(conventions.second_threshold)
        if conventions.second_policy == "random":
            assert noise.policy is not None
            level = noise.policy * max(threshold, 1e-9)
        gaps.append(abs(choose.policy_gates(plan.expert, probs_TE, conventions) - level))
    choice_T: np.ndarray = np.concatenate(gaps, axis=1).min(axis=1)
    return choice_T


def _cut(key_TK: np.ndarray, queued_TK: np.ndarray, plan: Plan,
         config: SwitchConfig) -> np.ndarray:
    """Return how far each token (T,) is from the capacity cut."""
    (t, k), (g, e) = key_TK.shape, plan.load.shape
    level_K = np.arange(k) if serve.leveled(config.conventions) else np.zeros(k, int)
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
    cut_T: np.ndarray = cut_TK.min(axis=1)
    return cut_T
