"""The balance loss and the z-loss of other libraries.

Source: nanoMoE (P of the chosen experts alone), Megatron (P of normalised sigmoid scores, f of many
microbatches), fairscale (its scale), Mesh TensorFlow (`moe_use_second_place_loss`; z-loss in
training only), Flaxformer (padding has log Z = log E). f comes from the plan unless it is given.
This file weights the tokens in P; the paper's losses compute the rest.

Forward:   L = L_balance(w ⊙ q) + L_second(p);  w: the tokens' weights;  q: the scores p, or
           q_e = m_e p_e / s with s = Σ_j m_j p_j + ε, where m says which experts take part
           L_second = mean over groups of ½ E Σ_e f_e Q_e;  f_e: fraction of the group's tokens
           whose second choice is e, before policy and drops;  Q_e: mean of q without the first
           choice, ε = 1e-9. Padding has no choices, but counts in Q and in the divisors.
           L_z = mean of log_z² over the tokens that count, or 0
Backward:  d_q = w ⊙ d_(w q),   d_p_e = m_e (d_q_e - Σ_j d_q_j q_j) / s;
           d_q[t, e] = d_L ½ E f[g, e] / (G n) for L_second;  the z-loss's is the paper's.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from switch_np.conventions.serve import group_of
from switch_np.conventions.table import Conventions
from switch_np.switch import balance_loss, z_loss
from switch_np.switch.balance_loss import BalanceCache
from switch_np.switch.plan import Plan
from switch_np.switch.z_loss import ZCache


class NormaliseCache(NamedTuple):
    """Saved for backward: the normalised scores, their divisors, and which experts take part."""

    scores_TE: np.ndarray
    sum_T1: np.ndarray
    mask_TE: np.ndarray


class SecondCache(NamedTuple):
    """Saved for backward: ∂L/∂q of each token, and the cache of q."""

    slope_TE: np.ndarray
    scores: NormaliseCache


class GeneralBalanceCache(NamedTuple):
    """Saved for backward: the tokens' weights, and the caches of the steps, None if left out."""

    weight_T1: np.ndarray
    scores: NormaliseCache | None
    balance: BalanceCache
    second: SecondCache | None


def balance(probs_TE: np.ndarray, plan: Plan, padding_T: np.ndarray | None = None, *,
            conventions: Conventions, f_E: np.ndarray | None = None,
            num_counted: int = 0) -> tuple[np.ndarray, GeneralBalanceCache]:
    """Return the balance loss, a scalar; `f_E`, if given, is f.

    `num_counted` is the K that f is divided by, where it is; 0: the plan's.

    >>> from switch_np.switch.plan import fill
    >>> probs, plan = np.array([[0.75, 0.25]] * 2), fill(np.array([[0], [0]]), 2, capacity=2)
    >>> conventions = Conventions(balance_padding="real_fraction")
    >>> float(balance(probs, plan, np.array([False, True]), conventions=conventions)[0])
    0.75
    """
    plan = replace(plan, group=group_of(len(probs_TE), len(plan.balance_count)))
    if f_E is not None:
        plan = replace(plan, balance_count=plan.balance_count * f_E.real
                       * plan.balance_tokens[:, None])
    weight_T1 = token_weights(plan, padding_T, conventions, num_counted)[:, None]
    weight_T1 = weight_T1.astype(probs_TE.real.dtype)
    scores_TE, scores, second_cache = probs_TE, None, None
    if conventions.balance_probs in ("chosen", "normalised"):
        mask_TE = np.full(probs_TE.shape, conventions.balance_probs == "normalised")
        np.put_along_axis(mask_TE, plan.expert, True, axis=1)
        scores_TE, scores = normalise(probs_TE, mask_TE)
    loss, cache = balance_loss.forward(scores_TE * weight_T1, plan)
    if conventions.second_balance:
        second, second_cache = second_choice(probs_TE, plan, padding_T, _scale(plan, conventions))
        loss = loss + second
    return loss, GeneralBalanceCache(weight_T1, scores, cache, second_cache)


def balance_backward(d_loss: float, cache: GeneralBalanceCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    d_probs_TE: np.ndarray = balance_loss.backward(d_loss, cache.balance) * cache.weight_T1
    if cache.scores is not None:
        d_probs_TE = normalise_backward(d_probs_TE, cache.scores)
    if cache.second is not None:
        d_probs_TE += second_choice_backward(d_loss, cache.second)
    return d_probs_TE


def token_weights(plan: Plan, padding_T: np.ndarray | None, conventions: Conventions,
                  num_counted: int = 0) -> np.ndarray:
    """Return each token's weight (T,) in P, with f's division by K and the loss's scale in it.

    >>> from switch_np.switch.plan import fill
    >>> plan, padding = fill(np.array([[0], [0]]), 1, capacity=2), np.array([False, True])
    >>> [token_weights(plan, padding, Conventions(balance_padding=how)).tolist()
    ...  for how in ("mask_full", "include", "real_fraction")]
    [[1.0, 0.0], [1.0, 1.0], [0.5, 0.5]]
    """
    weights_T = np.ones(len(plan.group))
    if padding_T is not None:
        if conventions.balance_padding in ("mask_valid", "mask_full", "mask_p"):
            weights_T[padding_T] = 0
        elif conventions.balance_padding == "real_fraction":
            tokens_G = np.bincount(plan.group, minlength=len(plan.balance_count))
            real_G = np.bincount(plan.group[~padding_T], minlength=len(plan.balance_count))
            weights_T = (real_G / np.maximum(tokens_G, 1))[plan.group]
    if conventions.balance_counts in ("all_over_k", "plain_over_k"):
        weights_T = weights_T / (num_counted or plan.expert.shape[1])
    return weights_T * _scale(plan, conventions)


def _scale(plan: Plan, conventions: Conventions) -> float:
    return 1.0 if conventions.balance_scale == "experts" else plan.load.shape[1] ** -2.0


def normalise(probs_TE: np.ndarray, mask_TE: np.ndarray,
              eps: float = 0.0) -> tuple[np.ndarray, NormaliseCache]:
    """Return the scores (T, E) divided by their sum over the masked experts; 0 if that is 0.

    >>> normalise(np.array([[0.2, 0.6, 0.2]]), np.array([[True, True, False]]))[0].round(2).tolist()
    [[0.25, 0.75, 0.0]]
    """
    masked_TE = probs_TE * mask_TE
    sum_T1 = masked_TE.sum(axis=1, keepdims=True) + eps
    sum_T1 = np.where(sum_T1 == 0, 1, sum_T1)
    scores_TE = masked_TE / sum_T1
    return scores_TE, NormaliseCache(scores_TE, sum_T1, mask_TE)


def normalise_backward(d_scores_TE: np.ndarray, cache: NormaliseCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    scores_TE, sum_T1, mask_TE = cache
    along_T1 = (d_scores_TE * scores_TE).sum(axis=1, keepdims=True)
    d_probs_TE: np.ndarray = mask_TE * (d_scores_TE - along_T1) / sum_T1
    return d_probs_TE


def second_choice(probs_TE: np.ndarray, plan: Plan, padding_T: np.ndarray | None = None,
                  scale: float = 1.0) -> tuple[np.ndarray, SecondCache]:
    """Return the balance loss of the second choices, a scalar."""
    (t, e), g = probs_TE.shape, len(plan.balance_count)
    real_T = np.ones(t, bool) if padding_T is None else ~padding_T
    second = plan.group[real_T] * e + plan.expert[real_T, 1]
    count_GE = np.bincount(second, minlength=g * e).reshape(g, e)
    group_size = max(t // max(g, 1), 1)
    slope_GE = scale * 0.5 * e * count_GE / (group_size ** 2 * max(g, 1))
    slope_TE = slope_GE[plan.group].astype(probs_TE.real.dtype)
    mask_TE = np.ones((t, e), bool)
    mask_TE[real_T, plan.expert[real_T, 0]] = False
    scores_TE, cache = normalise(probs_TE, mask_TE, 1e-9)
    return (slope_TE * scores_TE).sum(), SecondCache(slope_TE, cache)


def second_choice_backward(d_loss: float, cache: SecondCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    return normalise_backward(d_loss * cache.slope_TE, cache.scores)


def z(log_z_T: np.ndarray, padding_T: np.ndarray | None = None, *, conventions: Conventions,
      num_experts: int, training: bool) -> tuple[np.ndarray, ZCache]:
    """Return the z-loss, a scalar; its backward is the paper's.

    >>> conventions, padding = Conventions(z_padding="zero_logits"), np.array([False, True])
    >>> float(z(np.ones(2), padding, conventions=conventions, num_experts=1, training=False)[0])
    0.5
    """
    if conventions.z_when == "never" or (conventions.z_when == "training" and not training):
        return z_loss.forward(log_z_T, np.ones(len(log_z_T), bool))
    if padding_T is None or conventions.z_padding != "zero_logits":
        return z_loss.forward(log_z_T, padding_T if conventions.z_padding == "valid" else None)
    loss, cache = z_loss.forward(np.where(padding_T, math.log(num_experts), log_z_T))
    return loss, cache._replace(log_z_T=log_z_T * ~padding_T)     # log E has no gradient
