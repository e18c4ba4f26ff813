"""The general load-balancing loss: weighted tokens, normalised scores, a second loss.

Source: see `balance_counts`, `normalised_scores` and `second_choice_loss`. The plan holds f; here
every token gets a weight in P, and the paper's loss computes the rest.

Forward:   L = L_balance(w ⊙ q) + L_second(p);  q the scores p, or p normalised; w the weights
Backward:  d_q = w ⊙ d_(w q);  from q to p by `normalised_scores`, plus what L_second gives.
"""

from typing import NamedTuple

import numpy as np

from switch_np.conventions import balance_counts, normalised_scores, second_choice_loss
from switch_np.conventions.normalised_scores import NormalisedCache
from switch_np.conventions.second_choice_loss import SecondCache
from switch_np.conventions.table import Conventions
from switch_np.switch import balance_loss
from switch_np.switch.balance_loss import BalanceCache
from switch_np.switch.plan import Plan


class GeneralBalanceCache(NamedTuple):
    """Saved for backward: the weights, and the caches of the parts; None for a part not used."""

    weight_T1: np.ndarray
    normalised: NormalisedCache | None
    balance: BalanceCache
    second: SecondCache | None


def forward(probs_TE: np.ndarray, plan: Plan, padding_T: np.ndarray | None = None, *,
            conventions: Conventions) -> tuple[np.ndarray, GeneralBalanceCache]:
    """Return the loss, a scalar.

    >>> from switch_np.switch.plan import fill
    >>> probs, plan = np.array([[0.75, 0.25]] * 2), fill(np.array([[0], [0]]), 2, capacity=2)
    >>> theirs = Conventions(balance_padding="real_fraction")
    >>> float(forward(probs, plan, np.array([False, True]), conventions=theirs)[0])
    0.75
    """
    weight_T1 = balance_counts.weights(plan.group, len(plan.load), plan.expert.shape[1], padding_T,
                                       conventions).astype(probs_TE.real.dtype)[:, None]
    counted_TE, normalised, second_cache = probs_TE, None, None
    if conventions.balance_probs != "full":
        included_TE = np.full(probs_TE.shape, conventions.balance_probs != "chosen")
        np.put_along_axis(included_TE, plan.expert, True, axis=1)
        counted_TE, normalised = normalised_scores.forward(probs_TE, included_TE)
    loss, cache = balance_loss.forward(counted_TE * weight_T1, plan)
    if conventions.second_balance:
        second, second_cache = second_choice_loss.forward(probs_TE, plan, padding_T)
        loss = loss + second
    return loss, GeneralBalanceCache(weight_T1, normalised, cache, second_cache)


def backward(d_loss: float, cache: GeneralBalanceCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    d_probs_TE: np.ndarray = balance_loss.backward(d_loss, cache.balance) * cache.weight_T1
    if cache.normalised is not None:
        d_probs_TE = normalised_scores.backward(d_probs_TE, cache.normalised)
    if cache.second is not None:
        d_probs_TE += second_choice_loss.backward(d_loss, cache.second)
    return d_probs_TE
