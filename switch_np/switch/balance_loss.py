"""The load-balancing loss: small when tokens and probability spread evenly over the experts.

Source: equations 4 to 6 of the paper, N Σ_i f_i P_i; the factor α is the caller's.

Forward:   L = mean over groups of E · Σ_e f_e P_e; f_e is the share of a group's real tokens whose
           first choice is e, before any is dropped; P_e the mean of p_e over them. A group of
           padding alone counts 0 and is left out of the mean.
Backward:  f comes out of an argmax, is piecewise constant and has no gradient. L is linear in p:
           d_p[t, e] = d_L · E · f[g, e] / (G · n_g) for a real token t of group g with n_g real
           tokens, G the groups that have any; 0 for padding.
L is 1 where all is even, which is no lower bound. The review leaves out the factor E.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from switch_np.switch.plan import Plan


class BalanceCache(NamedTuple):
    """Kept: ∂L/∂p of a group's tokens, and which tokens are real."""

    slope_GE: np.ndarray
    group_T: np.ndarray
    padding_T: np.ndarray | None


def forward(probs_TE: np.ndarray, plan: Plan,
            padding_T: np.ndarray | None = None) -> tuple[np.ndarray, BalanceCache]:
    """Return the loss, a scalar.

    >>> from switch_np.switch.plan import fill
    >>> probs = np.array([[0.75, 0.25], [0.75, 0.25]])
    >>> float(forward(probs, fill(np.array([[0], [0]]), 2, capacity=2))[0])
    1.5
    """
    num_groups, num_experts = plan.balance_count.shape
    tokens_G1 = np.maximum(plan.balance_tokens, 1)[:, None]
    filled = max(np.count_nonzero(plan.balance_tokens), 1)
    slope_GE = (num_experts * plan.balance_count / (tokens_G1 ** 2 * filled)).astype(
        probs_TE.real.dtype)
    real_TE = probs_TE if padding_T is None else probs_TE * ~padding_T[:, None]
    group_size = len(probs_TE) // max(num_groups, 1)
    sums_GE = np.einsum("gte->ge", real_TE.reshape(num_groups, group_size, num_experts))
    return (slope_GE * sums_GE).sum(), BalanceCache(slope_GE, plan.group, padding_T)


def backward(d_loss: float, cache: BalanceCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    d_probs_TE = (d_loss * cache.slope_GE).take(cache.group_T, 0)
    if cache.padding_T is not None:
        d_probs_TE[cache.padding_T] = 0
    return d_probs_TE
