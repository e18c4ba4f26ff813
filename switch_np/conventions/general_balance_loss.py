"""The load-balancing loss of other libraries: other tokens behind P, other scores, a second loss.

Source: `balance_counts`, `normalised_scores` and `second_choice_loss` say whose. f was counted into
the plan; here every token gets a weight in P, and the paper's loss computes the rest.

Forward:   L = L_balance(w ⊙ q) + L_second(p);  q the scores p, or their shares; w the weights
Backward:  d_q = w ⊙ d_(w q);  from q to p by the shares' own rule, plus what L_second gives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from switch_np.conventions import balance_counts, normalised_scores, second_choice_loss
from switch_np.conventions.normalised_scores import NormalisedCache
from switch_np.conventions.second_choice_loss import SecondCache
from switch_np.conventions.table import Conventions
from switch_np.switch import balance_loss
from switch_np.switch.balance_loss import BalanceCache
from switch_np.switch.plan import Plan


class OthersCache(NamedTuple):
    """Saved for backward: the caches of the parts, None for those that are absent; the weights."""

    weight_T1: np.ndarray
    shares: NormalisedCache | None
    balance: BalanceCache
    second: SecondCache | None


def forward(probs_TE: np.ndarray, plan: Plan, padding_T: np.ndarray | None = None, *,
            conventions: Conventions) -> tuple[np.ndarray, OthersCache]:
    """Return the loss, a scalar.

    >>> from switch_np.switch.plan import fill
    >>> probs, plan = np.array([[0.75, 0.25]] * 2), fill(np.array([[0], [0]]), 2, capacity=2)
    >>> conventions = Conventions(balance_padding="real_fraction")
    >>> float(forward(probs, plan, np.array([False, True]), conventions=conventions)[0])
    0.75
    """
    weight_T1 = balance_counts.weights(plan.group, len(plan.load), plan.expert.shape[1], padding_T,
                                       conventions).astype(probs_TE.real.dtype)[:, None]
    counted_TE, shares, second_cache = probs_TE, None, None
    if conventions.balance_probs != "full":
        part_TE = np.ones(probs_TE.shape, bool)
        if conventions.balance_probs == "chosen":
            part_TE[...] = False
            np.put_along_axis(part_TE, plan.expert, True, axis=1)
        counted_TE, shares = normalised_scores.forward(probs_TE, part_TE)
    loss, cache = balance_loss.forward(counted_TE * weight_T1, plan)
    if conventions.second_balance:
        second, second_cache = second_choice_loss.forward(probs_TE, plan, padding_T)
        loss = loss + second
    return loss, OthersCache(weight_T1, shares, cache, second_cache)


def backward(d_loss: float, cache: OthersCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    d_probs_TE: np.ndarray = balance_loss.backward(d_loss, cache.balance) * cache.weight_T1
    if cache.shares is not None:
        d_probs_TE = normalised_scores.backward(d_probs_TE, cache.shares)
    if cache.second is not None:
        d_probs_TE += second_choice_loss.backward(d_loss, cache.second)
    return d_probs_TE
