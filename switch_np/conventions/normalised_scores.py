"""Scores divided by their sum over some of the experts.

Source: nanoMoE (P of the chosen experts alone), Megatron (sigmoid scores made to sum to 1), Mesh
TensorFlow (the scores without the first choice, in its loss of second choices).

Forward:   q_e = m_e p_e / s,  s = Σ_j m_j p_j + ε;  m_e = 1 for the experts included; 0 if s = 0
Backward:  d_p_e = m_e (d_q_e - Σ_j d_q_j q_j) / s.
"""

from typing import NamedTuple

import numpy as np


class NormalisedCache(NamedTuple):
    """Saved for backward: the quotients, the sums, and which experts are included."""

    normalised_TE: np.ndarray
    sum_T1: np.ndarray
    included_TE: np.ndarray


def forward(probs_TE: np.ndarray, included_TE: np.ndarray,
            eps: float = 0.0) -> tuple[np.ndarray, NormalisedCache]:
    """Return the normalised scores (T, E).

    >>> forward(np.array([[0.2, 0.6, 0.2]]), np.array([[True, True, False]]))[0].round(2).tolist()
    [[0.25, 0.75, 0.0]]
    """
    masked_TE = probs_TE * included_TE
    sum_T1 = masked_TE.sum(axis=1, keepdims=True) + eps
    sum_T1 = np.where(sum_T1 == 0, 1, sum_T1)
    normalised_TE = masked_TE / sum_T1
    return normalised_TE, NormalisedCache(normalised_TE, sum_T1, included_TE)


def backward(d_normalised_TE: np.ndarray, cache: NormalisedCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    normalised_TE, sum_T1, included_TE = cache
    along_T1 = (d_normalised_TE * normalised_TE).sum(axis=1, keepdims=True)
    d_probs_TE: np.ndarray = included_TE * (d_normalised_TE - along_T1) / sum_T1
    return d_probs_TE
