"""The gate: the chosen expert's probability, which scales its output.

Source: equation 2 of the paper, y = Σ p_i E_i(x) over the chosen experts.

Forward:   g[t, k] = p[t, expert[t, k]]: the chosen probabilities, not renormalised
Backward:  d_p[t, expert[t, k]] = d_g[t, k]; the other probabilities get 0. A token's experts
           differ, so nothing is added up.
The plan fixes the choice, which has no gradient. The gate is therefore the only path from the main
loss to the router, and it trains the router even with one expert per token (section 2.1).
"""

from typing import NamedTuple

import numpy as np

from switch_np.switch.plan import Plan


class GatesCache(NamedTuple):
    """Saved for backward: the probabilities, for their shape and dtype, and the plan."""

    probs_TE: np.ndarray
    plan: Plan


def forward(probs_TE: np.ndarray, plan: Plan) -> tuple[np.ndarray, GatesCache]:
    """Return the gates (T, K), including those of dropped choices, which `combine` ignores.

    >>> from switch_np.switch.plan import fill
    >>> forward(np.array([[0.1, 0.9]]), fill(np.array([[1]]), 2, capacity=1))[0].tolist()
    [[0.9]]
    """
    token_T1 = np.arange(len(probs_TE))[:, None]
    return probs_TE[token_T1, plan.expert], GatesCache(probs_TE, plan)


def backward(d_gates_TK: np.ndarray, cache: GatesCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    d_probs_TE = np.zeros_like(cache.probs_TE)
    token_T1 = np.arange(len(d_probs_TE))[:, None]
    d_probs_TE[token_T1, cache.plan.expert] = d_gates_TK
    return d_probs_TE
