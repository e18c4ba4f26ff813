"""Which experts a token asks for, under the conventions of other libraries.

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


def ranked(probs_TE: np.ndarray, logits_TE: np.ndarray, conventions: Conventions, noise: Noise,
           bias_E: np.ndarray | None) -> np.ndarray:
    """Return the scores (T, E) by which experts are chosen; -inf where they may not be.

    >>> conventions = Conventions(select_groups=2)
    >>> probs = np.array([[0.5, 0.1, 0.4, 0.3]])
    >>> ranked(probs, probs, conventions, Noise(), None).tolist()
    [[-inf, -inf, 0.4, 0.3]]
    """
    score_TE = probs_TE.real if noise.gumbel is None else (logits_TE + noise.gumbel).real
    if conventions.select_precision != "same":
        score_TE = round_to(score_TE, conventions.select_precision)
    if bias_E is not None:
        score_TE = score_TE + bias_E.real
    if conventions.select_groups == 1:
        return score_TE
    return close_groups(score_TE, group_scores(score_TE, conventions.select_groups),
                        conventions.select_groups_kept)


def close_groups(score_TE: np.ndarray, by_group: np.ndarray, kept: int) -> np.ndarray:
    """Return the scores, -inf for experts outside the `kept` best groups; `by_group` (T, groups).

    >>> close_groups(np.array([[0.5, 0.1, 0.4, 0.3]]), np.array([[0.6, 0.7]]), 1).tolist()
    [[-inf, -inf, 0.4, 0.3]]
    """
    open_ = np.zeros(by_group.shape, bool)
    np.put_along_axis(open_, largest(by_group, kept), True, axis=1)
    open_TE = np.repeat(open_, score_TE.shape[1] // by_group.shape[1], axis=1)
    return np.where(open_TE, score_TE, -np.inf)


def group_scores(score_TE: np.ndarray, groups: int) -> np.ndarray:
    """Return the sum of the two best scores of each group of experts (T, groups).

    >>> group_scores(np.array([[0.5, 0.1, 0.4, 0.3]]), 2).round(1).tolist()
    [[0.6, 0.7]]
    """
    t, e = score_TE.shape
    ascending = np.sort(score_TE.reshape(t, groups, e // groups), axis=2)
    return np.asarray(ascending[:, :, -2:].sum(axis=2))


def choose(score_TE: np.ndarray, logits_TE: np.ndarray, k: int, conventions: Conventions,
           noise: Noise) -> np.ndarray:
    """Return the K experts of each token (T, K), best first, the lowest index at a tie."""
    if conventions.second_choice == "largest" or k == 1:
        return largest(score_TE, k)
    first_T1 = largest(score_TE, 1)
    later_TE = (logits_TE + noise.second).real
    np.put_along_axis(later_TE, first_T1, -np.inf, axis=1)
    return np.concatenate([first_T1, largest(later_TE, k - 1)], axis=1)


def wanted(expert_TK: np.ndarray, probs_TE: np.ndarray, conventions: Conventions,
           noise: Noise) -> np.ndarray:
    """Return which choices (T, K) are asked for; the first always is.

    >>> conventions = Conventions(second_policy="threshold", second_compare="score")
    >>> probs = np.array([[.7, .3], [.9, .1]])
    >>> wanted(np.array([[0, 1]] * 2), probs, conventions, Noise()).tolist()
    [[True, True], [True, False]]
    """
    wanted_TK = np.ones(expert_TK.shape, bool)
    if conventions.second_policy == "none":
        wanted_TK[:, 1:] = False
    elif conventions.second_policy != "all":
        gate_TK = held_against(expert_TK, probs_TE, conventions)
        if conventions.second_policy == "threshold":
            wanted_TK[:, 1:] = gate_TK[:, 1:] > conventions.second_threshold
        else:
            assert noise.policy is not None
            threshold = max(conventions.second_threshold, 1e-9)
            wanted_TK[:, 1:] = noise.policy < gate_TK[:, 1:] / threshold
    return wanted_TK


def held_against(expert_TK: np.ndarray, probs_TE: np.ndarray,
                 conventions: Conventions) -> np.ndarray:
    """Return what the policy holds against its threshold (T, K): scores, or gates before drops.

    >>> held_against(np.array([[0, 1]]), np.array([[.6, .2]]), Conventions()).round(2).tolist()
    [[0.75, 0.25]]
    """
    gate_TK = np.take_along_axis(probs_TE.real, expert_TK, axis=1)
    if conventions.second_compare == "score":
        return gate_TK
    before = replace(conventions, renorm="pre", renorm_single=True)
    divided_TK: np.ndarray = gate_TK / renormalise.divisor(
        gate_TK, np.ones(gate_TK.shape, bool), before)[0]
    return divided_TK
