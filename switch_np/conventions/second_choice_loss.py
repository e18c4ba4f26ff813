"""A load-balancing loss of the second choices.

Source: Mesh TensorFlow's top-2 gating with `moe_use_second_place_loss`.

Forward:   L = mean over groups of ½ E Σ_e f_e Q_e.  f_e: fraction of the group's tokens whose
           second choice is e, before policy and drops.  Q_e: mean of q, the scores without the
           first choice, divided by their sum + 1e-9. Padding has no choices, but counts in Q and n.
Backward:  d_q[t, e] = d_L · ½ E f[g, e] / (G n);  from q to p by `normalised_scores`.
"""

from typing import NamedTuple

import numpy as np

from switch_np.conventions import normalised_scores
from switch_np.conventions.normalised_scores import NormalisedCache
from switch_np.switch.plan import Plan


class SecondCache(NamedTuple):
    """Saved for backward: ∂L/∂q of each token, and the cache of q."""

    slope_TE: np.ndarray
    normalised: NormalisedCache


def forward(probs_TE: np.ndarray, plan: Plan,
            padding_T: np.ndarray | None = None) -> tuple[np.ndarray, SecondCache]:
    """Return the loss, a scalar.

    >>> from switch_np.switch.plan import fill
    >>> plan = fill(np.array([[0, 1]]), 3, capacity=1)
    >>> float(forward(np.array([[0.6, 0.3, 0.1]]), plan)[0].round(6))
    1.125
    """
    (t, e), g = probs_TE.shape, len(plan.load)
    real_T = np.ones(t, bool) if padding_T is None else ~padding_T
    second = plan.group[real_T] * e + plan.expert[real_T, 1]
    count_GE = np.bincount(second, minlength=g * e).reshape(g, e)
    group_size = max(t // max(g, 1), 1)
    slope_GE = 0.5 * e * count_GE / (group_size ** 2 * max(g, 1))
    slope_TE = slope_GE[plan.group].astype(probs_TE.real.dtype)
    included_TE = np.ones((t, e), bool)
    included_TE[real_T, plan.expert[real_T, 0]] = False
    normalised_TE, cache = normalised_scores.forward(probs_TE, included_TE, 1e-9)
    return (slope_TE * normalised_TE).sum(), SecondCache(slope_TE, cache)


def backward(d_loss: float, cache: SecondCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    return normalised_scores.backward(d_loss * cache.slope_TE, cache.normalised)
