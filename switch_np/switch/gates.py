"""The gate: how much of a chosen expert's output a token takes.

Source: equation 2 of the paper, y = Σ p_i E_i(x) over the chosen experts.

Forward:   g[t, k] = p[t, expert[t, k]]: the chosen probabilities, as they are
Backward:  d_p[t, expert[t, k]] = d_g[t, k]; the probabilities of the others get nothing.
The choice itself has no gradient: the plan fixed it. So the gate is the one way by which the main
loss reaches the router, and the reason why a single expert suffices to train it (section 2.1).
Gates of dropped choices are there too; combine does not use them.
"""

from __future__ import annotations

import numpy as np

from switch_np.switch.plan import Plan


def forward(probs_TE: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the gates (T, K).

    >>> from switch_np.switch.plan import fill
    >>> forward(np.array([[0.1, 0.9]]), fill(np.array([[1]]), 2, capacity=1)).tolist()
    [[0.9]]
    """
    return probs_TE[_tokens(plan.expert), plan.expert]


def backward(d_gates_TK: np.ndarray, probs_TE: np.ndarray, plan: Plan) -> np.ndarray:
    """Return d_probs (T, E)."""
    d_probs_TE = np.zeros_like(probs_TE)
    _put(d_probs_TE, plan.expert, d_gates_TK)
    return d_probs_TE


def _put(to_TE: np.ndarray, expert_TK: np.ndarray, values_TK: np.ndarray) -> None:
    """Write a token's values to the experts that it chose."""
    to_TE[_tokens(expert_TK), expert_TK] = values_TK


def _tokens(expert_TK: np.ndarray) -> np.ndarray:
    """Return the numbers of the tokens (T, 1), which go with their experts as an index."""
    return np.arange(len(expert_TK))[:, None]
