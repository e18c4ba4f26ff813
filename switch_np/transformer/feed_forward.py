"""The dense feed-forward network of a block without experts.

Source: T5 (Raffel et al., JMLR 21, 2020): two products without biases, a rectifier between.

Forward:   h = ReLU(x W_in) ⊙ keep / (1 - rate),  y = h W_out
Backward:  d_W_out = hᵀ d_y,  d_h = d_y W_outᵀ, times 1 / (1 - rate) where h > 0 and 0 elsewhere,
           d_W_in = xᵀ d_h,  d_x = d_h W_inᵀ. h alone remembers both masks, as in the experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import dropout, relu


class FeedForwardCache(NamedTuple):
    """Kept: the input, the hidden activation, and the rate by which it was scaled up."""

    params: Mapping[str, np.ndarray]
    x_TD: np.ndarray
    hidden_TF: np.ndarray
    rate: float


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray,
            keep_TF: np.ndarray | None = None,
            rate: float = 0.0) -> tuple[np.ndarray, FeedForwardCache]:
    """Return y (T, D); `params` holds `w_in` (D, F) and `w_out` (F, D).

    >>> params = {"w_in": np.array([[1.0, -1.0]]), "w_out": np.array([[1.0], [10.0]])}
    >>> forward(params, np.array([[2.0], [-3.0]]))[0].tolist()
    [[2.0], [30.0]]
    """
    hidden_TF = relu.forward(x_TD @ params["w_in"])
    hidden_TF = dropout.forward(hidden_TF, keep_TF, rate)
    cache = FeedForwardCache(params, x_TD, hidden_TF, 0.0 if keep_TF is None else rate)
    return hidden_TF @ params["w_out"], cache


def backward(d_y_TD: np.ndarray,
             cache: FeedForwardCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the parameters."""
    params, x_TD, hidden_TF, rate = cache
    d_w_out = hidden_TF.T @ d_y_TD
    d_hidden_TF = relu.backward(d_y_TD @ params["w_out"].T, hidden_TF) * (1 / (1 - rate))
    grads = {"w_in": x_TD.T @ d_hidden_TF, "w_out": d_w_out}
    return d_hidden_TF @ params["w_in"].T, grads
