"""Which experts a token asks for, by the rules of other libraries.

Source: DeepSeek-V3 (a bias that only selects; groups of experts), transformers (the choice after a
cast), DeepSpeed and fairseq (the second choice sampled), Mesh TensorFlow, lucidrains and fairseq
(whether a second choice is asked for at all).

All of it is discrete: scores go in, indices and bools come out, and nothing has a gradient.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from switch_np.conventions import renormalise
from switch_np.conventions.noise import Noise
from switch_np.conventions.table import Conventions
from switch_np.operations.precision import round_to
from switch_np.operations.queues import largest


def ranked(probs_TE: np.ndarray, logits_TE: np.ndarray, rules: Conventions, noise: Noise,
           bias_E: np.ndarray | None) -> np.ndarray:
    """Return the scores (T, E) by which experts are chosen; -inf where they may not be.

    >>> rules = Conventions(select_groups=2)
    >>> probs = np.array([[0.5, 0.1, 0.4, 0.3]])
    >>> ranked(probs, probs, rules, Noise(), None).tolist()
    [[-inf, -inf, 0.4, 0.3]]
    """
    score_TE = probs_TE.real if noise.gumbel is None else (logits_TE + noise.gumbel).real
    if rules.select_precision != "same":
        score_TE = round_to(score_TE, rules.select_precision)
    if bias_E is not None:
        score_TE = score_TE + bias_E.real
    if rules.select_groups == 1:
        return score_TE
    together = group_scores(score_TE, rules.select_groups)
    open_ = np.zeros(together.shape, bool)
    np.put_along_axis(open_, largest(together, rules.select_groups_kept), True, axis=1)
    open_TE = np.repeat(open_, score_TE.shape[1] // rules.select_groups, axis=1)
    return np.where(open_TE, score_TE, -np.inf)


def group_scores(score_TE: np.ndarray, groups: int) -> np.ndarray:
    """Return the sum of the two best scores of each group of experts (T, groups).

    >>> group_scores(np.array([[0.5, 0.1, 0.4, 0.3]]), 2).round(1).tolist()
    [[0.6, 0.7]]
    """
    t, e = score_TE.shape
    return np.sort(score_TE.reshape(t, groups, e // groups), axis=2)[:, :, -2:].sum(axis=2)


def choose(score_TE: np.ndarray, logits_TE: np.ndarray, k: int, rules: Conventions,
           noise: Noise) -> np.ndarray:
    """Return the K experts of each token (T, K), best first, the lowest index at a tie."""
    if rules.second_choice == "largest" or k == 1:
        return largest(score_TE, k)
    first_T1 = largest(score_TE, 1)
    later_TE = (logits_TE + noise.second).real
    np.put_along_axis(later_TE, first_T1, -np.inf, axis=1)
    return np.concatenate([first_T1, largest(later_TE, k - 1)], axis=1)


def wanted(expert_TK: np.ndarray, probs_TE: np.ndarray, rules: Conventions,
           noise: Noise) -> np.ndarray:
    """Return which choices (T, K) are asked for; the first always is.

    >>> rules = Conventions(second_policy="threshold", second_compare="score")
    >>> wanted(np.array([[0, 1]] * 2), np.array([[.7, .3], [.9, .1]]), rules, Noise()).tolist()
    [[True, True], [True, False]]
    """
    wanted_TK = np.ones(expert_TK.shape, bool)
    if rules.second_policy == "none":
        wanted_TK[:, 1:] = False
    elif rules.second_policy != "all":
        gate_TK = held_against(expert_TK, probs_TE, rules)
        if rules.second_policy == "threshold":
            wanted_TK[:, 1:] = gate_TK[:, 1:] > rules.second_threshold
        else:
            wanted_TK[:, 1:] = noise.policy < gate_TK[:, 1:] / max(rules.second_threshold, 1e-9)
    return wanted_TK


def held_against(expert_TK: np.ndarray, probs_TE: np.ndarray, rules: Conventions) -> np.ndarray:
    """Return what the policy holds against its threshold (T, K): scores, or gates before drops.

    >>> held_against(np.array([[0, 1]]), np.array([[.6, .2]]), Conventions()).round(2).tolist()
    [[0.75, 0.25]]
    """
    gate_TK = np.take_along_axis(probs_TE.real, expert_TK, axis=1)
    if rules.second_compare == "score":
        return gate_TK
    before = replace(rules, renorm="pre", renorm_single=True)
    return gate_TK / renormalise.divisor(gate_TK, np.ones(gate_TK.shape, bool), before)[0]
