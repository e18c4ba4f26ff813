"""What every token gets besides its choices: a shared expert, a shared bias.

Source: DeepSeek-V3 (one expert, as wide as the shared ones together, without a gate); MegaBlocks
(one output bias for all tokens).

Forward:   y = FFN_shared(x) + b_shared, the network of `experts` with a single expert
Backward:  the experts' own on all tokens; d_b_shared = Σ_t d_y.
The shared network is one expert of a plan that sends every token to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.conventions.table import Conventions
from switch_np.switch.plan import fill
from switch_np.switch.variants import experts

NAMES = ("w_in", "w_gate", "w_out")


class SharedCache(NamedTuple):
    """Kept: the shared expert's cache, None without one, and the tokens that count."""

    experts: experts.ExpertsCache | None
    biased: bool
    real_T: np.ndarray


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, real_T: np.ndarray,
            rules: Conventions) -> tuple[np.ndarray, SharedCache]:
    """Return what is added to y (T, D); 0 for tokens that are not `real_T`.

    >>> rules = Conventions(shared_bias=True)
    >>> forward({"shared_b_out": np.array([3.0])}, np.ones((1, 1)), np.array([True]), rules)[0]
    array([[3.]])
    """
    y_TD, cache = np.zeros_like(x_TD), None
    if rules.shared_experts:
        mine = {name: params["shared_" + name][None] for name in NAMES
                if "shared_" + name in params}
        everyone = fill(np.zeros((len(x_TD), 1), int), 1, capacity=None)
        y_TD, cache = experts.forward(mine, x_TD, everyone, rules)
    if rules.shared_bias:
        y_TD = y_TD + params["shared_b_out"]
    return y_TD * real_T[:, None], SharedCache(cache, rules.shared_bias, real_T)


def backward(d_y_TD: np.ndarray, cache: SharedCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the shared parameters."""
    d_y_TD = d_y_TD * cache.real_T[:, None]
    d_x_TD, grads = np.zeros_like(d_y_TD), {}
    if cache.experts is not None:
        d_x_TD, found = experts.backward(d_y_TD, cache.experts)
        grads = {f"shared_{name}": value[0] for name, value in found.items()}
    if cache.biased:
        grads["shared_b_out"] = d_y_TD.sum(axis=0)
    return d_x_TD, grads
