"""The feed-forward network, of an expert or of a dense block.

Source: section 2.1 of the paper, without biases, as in T5; expert dropout from section 2.4.

Forward:   a = x W_in,   h = ReLU(a) ⊙ keep / (1 - rate),   y = h W_out
Backward:  d_W_out = hᵀ d_y,   d_h = d_y W_outᵀ,   d_a = d_h / (1 - rate) where h > 0, else 0,
           d_W_in = xᵀ d_a,    d_x = d_a W_inᵀ.
h > 0 exactly where the ReLU passes a value and dropout keeps it, so only h is saved. T here: any
rows, such as a block of one expert's.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from switch_np.operations import dropout, relu
from switch_np.operations.products import times_transposed

NAMES = ("w_in", "w_out")
NO_ARRAYS: Mapping[str, np.ndarray] = MappingProxyType({})


class FeedForwardCache(NamedTuple):
    """Saved for backward: the weights, the input, the hidden activation and the dropout rate."""

    params: Mapping[str, np.ndarray]
    x_TD: np.ndarray
    hidden_TF: np.ndarray
    rate: float


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, keep_TF: np.ndarray | None = None,
            rate: float = 0.0, out: np.ndarray | None = None
            ) -> tuple[np.ndarray, FeedForwardCache]:
    """Return y (T, D), fresh or in `out`; `params` holds `w_in` (D, F) and `w_out` (F, D).

    >>> params = {"w_in": np.array([[1.0, -1.0]]), "w_out": np.array([[1.0], [10.0]])}
    >>> forward(params, np.array([[2.0], [-3.0]]))[0].tolist()
    [[2.0], [30.0]]
    """
    hidden_TF = x_TD @ params["w_in"]
    relu.forward(hidden_TF, out=hidden_TF)
    hidden_TF = dropout.forward(hidden_TF, keep_TF, rate)
    cache = FeedForwardCache(params, x_TD, hidden_TF, 0.0 if keep_TF is None else rate)
    return np.matmul(hidden_TF, params["w_out"], out=out), cache


def backward(d_y_TD: np.ndarray, cache: FeedForwardCache,
             into: Mapping[str, np.ndarray] = NO_ARRAYS
             ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the weights.

    `into` may name arrays to write them to: "x", "w_in", "w_out".
    """
    params, x_TD, hidden_TF, rate = cache
    d_w_out = np.matmul(hidden_TF.T, d_y_TD, out=into.get("w_out"))
    d_linear_TF = times_transposed(d_y_TD, params["w_out"])      # d_h; masked in place, it is d_a
    d_linear_TF *= hidden_TF.real > 0
    if rate:
        d_linear_TF *= 1 / (1 - rate)
    d_w_in = np.matmul(x_TD.T, d_linear_TF, out=into.get("w_in"))
    d_x_TD = times_transposed(d_linear_TF, params["w_in"], out=into.get("x"))
    return d_x_TD, {"w_in": d_w_in, "w_out": d_w_out}
