"""The load-balancing loss: small when tokens and probability spread evenly over the experts.

Source: equations 4 to 6 of the paper, N Σ_i f_i P_i (its N is our E); the caller applies α.

Forward:   L = mean over groups of E · Σ_e f_e P_e. Over the n_g real tokens of group g, f_e is
           the fraction whose first choice is e, before dropping, and P_e the mean of p_e.
           Groups without real tokens are left out of the mean; L is 0 if there are no others.
Backward:  f counts argmaxes: it is piecewise constant and has no gradient. L is linear in p:
           d_p[t, e] = d_L · E · f[g, e] / (m · n_g) for a real token t of group g, where m is
           the number of groups with real tokens; 0 for padding.
L = 1 for uniform routing, but that is not a lower bound: L can be smaller.
"""

from typing import NamedTuple

import numpy as np

from switch_np.switch.plan import Plan


class BalanceCache(NamedTuple):
    """Saved for backward: ∂L/∂p of a group's tokens, and which tokens are padding."""

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
    (g, e), t = plan.balance_count.shape, len(probs_TE)
    tokens_G1 = np.maximum(plan.balance_tokens, 1)[:, None]
    nonempty = max(np.count_nonzero(plan.balance_tokens), 1)
    slope_GE = e * plan.balance_count / (tokens_G1 ** 2 * nonempty)
    slope_GE = slope_GE.astype(probs_TE.real.dtype)            # a quotient of integers is float64
    real_TE = probs_TE if padding_T is None else probs_TE * ~padding_T[:, None]
    # einsum adds up faster than sum(axis=1)
    sums_GE = np.einsum("gte->ge", real_TE.reshape(g, t // max(g, 1), e))
    return (slope_GE * sums_GE).sum(), BalanceCache(slope_GE, plan.group, padding_T)


def backward(d_loss: float, cache: BalanceCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    d_probs_TE = (d_loss * cache.slope_GE).take(cache.group_T, axis=0)
    if cache.padding_T is not None:
        d_probs_TE[cache.padding_T] = 0
    return d_probs_TE
