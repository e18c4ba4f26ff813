"""Which experts a token chooses under other libraries' conventions: discrete, so no gradient.

Source: DeepSeek-V3 (a bias for selection alone; groups of experts), transformers (rounding before
the choice), DeepSpeed, fairseq (a sampled second choice), Mesh TensorFlow, lucidrains (its policy).
"""

from dataclasses import replace

import numpy as np

from switch_np.conventions import renormalise
from switch_np.conventions.noise import Noise
from switch_np.conventions.table import Conventions
from switch_np.operations.precision import round_to
from switch_np.operations.queues import largest


def ranked(probs_TE: np.ndarray, logits_TE: np.ndarray, conventions: Conventions, noise: Noise,
           bias_E: np.ndarray | None) -> np.ndarray:
    """Return the scores (T, E) that rank the experts; -inf for those that may not be chosen.

    >>> probs = np.array([[0.5, 0.1, 0.4, 0.3]])
    >>> ranked(probs, probs, Conventions(select_groups=2), Noise(), None).tolist()
    [[-inf, -inf, 0.4, 0.3]]
    """
    score_TE = probs_TE.real if noise.gumbel is None else (logits_TE + noise.gumbel).real
    if conventions.select_precision != "same":
        score_TE = round_to(score_TE, conventions.select_precision)
    if bias_E is not None:
        score_TE = score_TE + bias_E.real
    if conventions.select_groups == 1:
        return score_TE
    by_group = group_scores(score_TE, conventions)
    return close_groups(score_TE, by_group, conventions.select_groups_kept)


def close_groups(score_TE: np.ndarray, by_group: np.ndarray, kept: int) -> np.ndarray:
    """Return the scores, -inf for experts outside the `kept` best groups; `by_group` (T, groups).

    >>> close_groups(np.array([[0.5, 0.1, 0.4, 0.3]]), np.array([[0.6, 0.7]]), 1).tolist()
    [[-inf, -inf, 0.4, 0.3]]
    """
    open_groups = np.zeros(by_group.shape, bool)
    np.put_along_axis(open_groups, largest(by_group, kept), True, axis=1)
    open_TE = np.repeat(open_groups, score_TE.shape[1] // by_group.shape[1], axis=1)
    return np.where(open_TE, score_TE, -np.inf)


def group_scores(score_TE: np.ndarray, conventions: Conventions) -> np.ndarray:
    """Return the sum of the best scores of each group of experts (T, groups)."""
    (t, e), groups = score_TE.shape, conventions.select_groups
    ascending = np.sort(score_TE.reshape(t, groups, e // groups), axis=2)
    return np.asarray(ascending[:, :, -conventions.select_group_best:].sum(axis=2))


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
    """Return which choices (T, K) are used; the first always is.

    >>> theirs = Conventions(second_policy="threshold", second_compare="score")
    >>> wanted(np.array([[0, 1]] * 2), np.array([[.7, .3], [.9, .1]]), theirs, Noise()).tolist()
    [[True, True], [True, False]]
    """
    wanted_TK = np.ones(expert_TK.shape, bool)
    if conventions.second_policy == "none":
        wanted_TK[:, 1:] = False
    elif conventions.second_policy != "all":
        later_TK = policy_gates(expert_TK, probs_TE, conventions)
        if conventions.second_policy == "threshold":
            wanted_TK[:, 1:] = later_TK > conventions.second_threshold
        else:
            assert noise.policy is not None
            wanted_TK[:, 1:] = noise.policy < later_TK / max(conventions.second_threshold, 1e-9)
    return wanted_TK


def policy_gates(expert_TK: np.ndarray, probs_TE: np.ndarray,
                 conventions: Conventions) -> np.ndarray:
    """Return what the policy compares with its threshold (T, K - 1): scores, or `pre` gates."""
    gate_TK = np.take_along_axis(probs_TE.real, expert_TK, axis=1)
    if conventions.second_compare == "gate":
        before = replace(conventions, renorm="pre", renorm_single=True)
        gate_TK = gate_TK / renormalise.divisor(gate_TK, np.ones(gate_TK.shape, bool), before)[0]
    return gate_TK[:, 1:]
