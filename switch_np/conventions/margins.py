"""How far each token is from another decision.

No decision can change while every score moves by less than half its margin. With groups of experts
the choice's margin includes the gap between the last group taken and the first left out, divided by
the number of scores on each side that can move; with a policy for later choices, the distance to
its threshold. With batch-prioritised routing only choices of the same rank compete for slots.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from switch_np.conventions import choose, serve
from switch_np.conventions.noise import Noise
from switch_np.conventions.table import Conventions
from switch_np.operations import check, signatures
from switch_np.operations.queues import largest
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


class Margins(NamedTuple):
    """How far each token (T,) is from another decision.

    `choice` is the smallest gap between scores that, once closed, would change the token's choices
    or their order; infinity with a single expert. `contested`, bool, says whether an expert that
    the token chose is over capacity in its group, so that other tokens' choices decide whether it
    is kept. `cut` is the gap to the nearest choice on the other side of the capacity cut where
    scores set the priority; infinity where nothing is dropped, or position decides.
    """

    choice: np.ndarray
    contested: np.ndarray
    cut: np.ndarray


def _rank(scores_TE: np.ndarray, expert_TK: np.ndarray) -> np.ndarray:
    """Return (T, K + 1): the scores of a token's choices, then the best score not chosen."""
    chosen_TK = np.take_along_axis(scores_TE, expert_TK, axis=1)
    rest_TE = scores_TE.copy()
    np.put_along_axis(rest_TE, expert_TK, -np.inf, axis=1)
    return np.column_stack([chosen_TK, rest_TE.max(axis=1)])


@signatures.checked
def contested(plan: Plan) -> np.ndarray:
    """Return (T,) bool: whether an expert that the token chose is over capacity in its group.

    >>> from switch_np.switch.plan import fill
    >>> contested(fill(np.array([[0], [0], [1]]), 2, capacity=1)).tolist()
    [True, True, False]
    """
    over_GE = plan.load > plan.capacity
    return np.asarray(over_GE[plan.group[:, None], plan.expert].any(axis=1))


@signatures.checked
def margins(scores_TE: np.ndarray, plan: Plan, config: SwitchConfig | None = None, *,
            logits_TE: np.ndarray | None = None, padding_T: np.ndarray | None = None,
            bias_E: np.ndarray | None = None, noise: Noise | None = None,
            training: bool = False) -> Margins:
    """Return how far each token is from another decision, in units of the scores.

    Parameters
    ----------
    scores_TE, plan
        What ranked the experts (probabilities, or logits with noise), and the decisions.
    config, logits_TE, padding_T, bias_E, noise, training
        For other libraries' conventions: the config, and whatever else the decisions depend on.
        Without logits, log p takes their place.

    Examples
    --------
    >>> probs = np.array([[.6, .4], [.7, .3], [.9, .1]])
    >>> config = SwitchConfig.like("flaxformer", num_experts=2, capacity=2, priority="batch")
    >>> found = margins(probs, serve.decide(probs, np.log(probs), config), config)
    >>> found.choice.round(2).tolist(), found.cut.round(2).tolist(), found.contested.tolist()
    ([0.2, 0.4, 0.8], [0.1, 0.1, 0.3], [True, True, True])
    """
    (t, k), (g, e) = plan.expert.shape, plan.load.shape
    check.floats("scores_TE", scores_TE, (t, e))
    config, noise = SwitchConfig() if config is None else config, noise or Noise()
    conventions = config.conventions
    if padding_T is not None:
        check.booleans("padding_T", padding_T, (t,))
    for name, value, shape in (("logits_TE", logits_TE, (t, e)), ("bias_E", bias_E, (e,))):
        if value is not None:
            check.floats(name, value, shape)
    for name, value, knob, asked in (
            ("bias_E", bias_E, "select_bias", conventions.select_bias),
            ("noise.second", noise.second, "second_choice",
             conventions.second_choice == "sampled" and k > 1),
            ("noise.policy", noise.policy, "second_policy", conventions.second_policy == "random")):
        if asked and value is None:
            raise ValueError(
                f"{name} must be given with {knob}={getattr(conventions, knob)!r}, got None")
    if logits_TE is None:
        with np.errstate(divide="ignore", invalid="ignore"):
            logits_TE = np.log(scores_TE.real)
    choice_T, cut_T = np.full((2, t), np.inf)
    if conventions.chooser == "tokens":
        choice_T = (_choice(scores_TE.real, logits_TE.real, plan, conventions, bias_E, noise)
                    if config.num_tries == 1 else _tried(scores_TE.real, plan, config.num_tries))
    key_TK = serve.keys(plan.expert, scores_TE, logits_TE, config, noise)
    queued_TK = choose.wanted(plan.expert, scores_TE, conventions, noise) | plan.kept
    if padding_T is not None and conventions.padding_routing == "left_out":
        queued_TK &= ~padding_T[:, None]
    if key_TK is not None and config.expert_capacity(t // max(g, 1), training):
        cut_T = _cut(key_TK, queued_TK, plan, config)
        if conventions.priority == "weight":          # a gate can move more than its score
            chosen_TK = np.take_along_axis(scores_TE.real, plan.expert, axis=1)
            cut_T *= serve.weight_sum(chosen_TK, conventions).min(initial=1) / 2
    contested_T = contested(plan)
    if config.num_tries > 1:                          # tokens passed on queue behind others
        contested_T |= plan.expert[:, 0] != scores_TE.real.argmax(axis=1)
    return Margins(choice_T, contested_T, cut_T)


def _choice(probs_TE: np.ndarray, logits_TE: np.ndarray, plan: Plan, conventions: Conventions,
            bias_E: np.ndarray | None, noise: Noise) -> np.ndarray:
    score_TE = choose.ranked(probs_TE, logits_TE, conventions, noise, bias_E)
    if conventions.second_choice == "sampled" and plan.expert.shape[1] > 1:
        first = _rank(score_TE, plan.expert[:, :1])
        later_TE = logits_TE + noise.second
        np.put_along_axis(later_TE, plan.expert[:, :1], -np.inf, axis=1)
        later = _rank(later_TE, plan.expert[:, 1:])
        gaps = [first[:, :1] - first[:, 1:], later[:, :-1] - later[:, 1:]]
    else:
        ranked = _rank(score_TE, plan.expert)
        closed = np.isneginf(ranked[:, :-1])               # a replayed choice from a closed group
        gaps = [ranked[:, :-1] - np.where(closed, 0, ranked[:, 1:])]
    if conventions.select_groups > conventions.select_groups_kept:
        ungrouped = replace(conventions, select_groups=1, select_groups_kept=1)
        open_TE = choose.ranked(probs_TE, logits_TE, ungrouped, noise, bias_E)
        together = -np.sort(-choose.group_scores(open_TE, conventions), axis=1)
        kept, size = conventions.select_groups_kept, open_TE.shape[1] // conventions.select_groups
        moving = min(conventions.select_group_best, size)
        gaps.append((together[:, kept - 1:kept] - together[:, kept:kept + 1]) / moving)
    if conventions.second_policy in ("threshold", "random"):
        threshold: float | np.ndarray = conventions.second_threshold
        if conventions.second_policy == "random":
            assert noise.policy is not None
            threshold = noise.policy * max(conventions.second_threshold, 1e-9)
        gaps.append(abs(choose.policy_gates(plan.expert, probs_TE, conventions) - threshold))
    return np.asarray(np.concatenate(gaps, axis=1).min(axis=1))


def _tried(scores_TE: np.ndarray, plan: Plan, tries: int) -> np.ndarray:
    """Return the smallest gap (T,) among the experts that a token asked, and to the next one."""
    order_TK = largest(scores_TE, tries)
    ranked_TE = -np.sort(-np.pad(scores_TE, ((0, 0), (0, 1)), constant_values=-np.inf), axis=1)
    gap_TK = ranked_TE[:, :tries] - ranked_TE[:, 1:tries + 1]
    got_T = np.where(plan.kept[:, 0], (order_TK == plan.expert).argmax(axis=1), tries)
    asked_TK = np.arange(tries) <= got_T[:, None]
    return np.asarray(np.where(asked_TK, gap_TK, np.inf).min(axis=1))


def _cut(key_TK: np.ndarray, queued_TK: np.ndarray, plan: Plan,
         config: SwitchConfig) -> np.ndarray:
    """Return the margin (T,) of being kept or dropped, by the scores that set the priority."""
    (t, k), (g, e) = key_TK.shape, plan.load.shape
    rank_K = np.arange(k) if serve.by_rank(config.conventions) else np.zeros(k, int)
    queue_TK = (rank_K * e + plan.expert) * g + plan.group[:, None]
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
    return np.asarray(cut_TK.min(axis=1))
