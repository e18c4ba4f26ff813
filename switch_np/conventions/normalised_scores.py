"""Scores divided by their sum over some of the experts.

Source: nanoMoE (P of the chosen experts alone), Megatron (sigmoid scores made to sum to 1), Mesh
TensorFlow (the scores without the first choice, in its loss of second places).

Forward:   q_e = m_e p_e / s,  s = Σ_j m_j p_j + ε;  m says which experts take part; 0 if s = 0
Backward:  d_p_e = m_e (d_q_e - Σ_j d_q_j q_j) / s.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class NormalisedCache(NamedTuple):
    """Saved for backward: the shares, the sums, and which experts take part."""

    shares_TE: np.ndarray
    sum_T1: np.ndarray
    part_TE: np.ndarray


def forward(probs_TE: np.ndarray, part_TE: np.ndarray,
            eps: float = 0.0) -> tuple[np.ndarray, NormalisedCache]:
    """Return the shares (T, E), and what `backward` needs.

    >>> forward(np.array([[0.2, 0.6, 0.2]]), np.array([[True, True, False]]))[0].round(2).tolist()
    [[0.25, 0.75, 0.0]]
    """
    kept_TE = probs_TE * part_TE
    sum_T1 = kept_TE.sum(axis=1, keepdims=True) + eps
    sum_T1 = np.where(sum_T1 == 0, 1, sum_T1)
    shares_TE = kept_TE / sum_T1
    return shares_TE, NormalisedCache(shares_TE, sum_T1, part_TE)


def backward(d_shares_TE: np.ndarray, cache: NormalisedCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    shares_TE, sum_T1, part_TE = cache
    along_T1 = (d_shares_TE * shares_TE).sum(axis=1, keepdims=True)
    d_probs_TE: np.ndarray = part_TE * (d_shares_TE - along_T1) / sum_T1
    return d_probs_TE
