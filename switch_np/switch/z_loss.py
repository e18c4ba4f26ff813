"""The router z-loss: keeps the router's logits small.

Source: equation 5 of "ST-MoE" (Zoph et al., 2022); the Switch paper has none, so
`ModelConfig.z_coef` is 0 by default.

Forward:   L = mean over the n real tokens of (log Σ_e exp logits_e)²; 0 without tokens
Backward:  d_log_z[t] = d_L · 2 log_z[t] / n for a real token, 0 for padding. The router
           takes it from there: ∂log_z/∂logits = p.
"""

from typing import NamedTuple

import numpy as np


class ZCache(NamedTuple):
    """Saved for backward: log_z with zeros at padding, and the number of real tokens."""

    log_z_T: np.ndarray
    real_tokens: int


def forward(log_z_T: np.ndarray,
            padding_T: np.ndarray | None = None) -> tuple[np.ndarray, ZCache]:
    """Return the loss, a scalar.

    >>> float(forward(np.array([1.0, 3.0]))[0])
    5.0
    """
    real_tokens = len(log_z_T)
    if padding_T is not None:
        log_z_T = log_z_T * ~padding_T
        real_tokens -= int(padding_T.sum())
    cache = ZCache(log_z_T, max(real_tokens, 1))
    return np.einsum("t,t->", log_z_T, log_z_T * (1 / cache.real_tokens)), cache


def backward(d_loss: float, cache: ZCache) -> np.ndarray:
    """Return d_log_z (T,)."""
    return (d_loss * 2 / cache.real_tokens) * cache.log_z_T
