"""Which experts a token asks for, under other libraries' conventions.

Source: DeepSeek-V3 (a bias for the selection alone; groups of experts), transformers (scores
rounded before the choice), DeepSpeed and fairseq (a sampled second choice), Mesh TensorFlow,
lucidrains and fairseq (a policy on whether a second choice is asked for).

All of it is discrete: scores go in, indices and bools come out, and nothing has a gradient.
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
    """Return the scores (T, E) that rank the experts; -inf for experts that may not be chosen.

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
    sums = group_scores(score_TE, conventions.select_groups)
    eligible = np.zeros(sums.shape, bool)
    np.put_along_axis(eligible, largest(sums, conventions.select_groups_kept), True, axis=1)
    eligible_TE = np.repeat(eligible, score_TE.shape[1] // conventions.select_groups, axis=1)
    return np.where(eligible_TE, score_TE, -np.inf)


def group_scores(score_TE: np.ndarray, groups: int) -> np.ndarray:
    """Return the sum of the two best scores of each group of experts (T, groups).

    >>> group_scores(np.array([[0.5, 0.1, 0.4, 0.3]]), 2).round(1).tolist()
    [[0.6, 0.7]]
    """
    t, e = score_TE.shape
    in_groups = np.sort(score_TE.reshape(t, groups, e // groups), axis=2)
    sums: np.ndarray = in_groups[:, :, -2:].sum(axis=2)
    return sums


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

    >>> limit = Conventions(second_policy="threshold", second_compare="score")
    >>> wanted(np.array([[0, 1]] * 2), np.array([[.7, .3], [.9, .1]]), limit, Noise()).tolist()
    [[True, True], [True, False]]
    """
    wanted_TK = np.ones(expert_TK.shape, bool)
    policy, threshold = conventions.second_policy, conventions.second_threshold
    if policy == "none":
        wanted_TK[:, 1:] = False
    elif policy == "threshold":
        wanted_TK[:, 1:] = policy_gates(expert_TK, probs_TE, conventions) > threshold
    elif policy == "random":
        assert noise.policy is not None                        # `check_noise` saw to it
        chance = policy_gates(expert_TK, probs_TE, conventions) / max(threshold, 1e-9)
        wanted_TK[:, 1:] = noise.policy < chance
    return wanted_TK


def policy_gates(expert_TK: np.ndarray, probs_TE: np.ndarray,
                 conventions: Conventions) -> np.ndarray:
    """Return what the policy compares with its threshold (T, K - 1): scores, or gates before drops.

    >>> policy_gates(np.array([[0, 1]]), np.array([[.6, .2]]), Conventions()).round(2).tolist()
    [[0.25]]
    """
    gates_TK = np.take_along_axis(probs_TE.real, expert_TK, axis=1)
    if conventions.second_compare == "gate":
        before = replace(conventions, renorm="pre", renorm_single=True)
        gates_TK = gates_TK / renormalise.divisor(gates_TK, np.ones_like(gates_TK, bool), before)[0]
    return gates_TK[:, 1:]
