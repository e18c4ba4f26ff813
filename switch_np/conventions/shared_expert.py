"""What every token gets besides its choices: a shared expert, a shared bias.

Source: DeepSeek-V3 (one expert, as wide as the shared ones together, without a gate); MegaBlocks
(one output bias for all tokens).

Forward:   y = FFN_shared(x) + b_shared for the tokens served, 0 for others
Backward:  the network's own on all tokens; d_b_shared = Σ d_y over the tokens served.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.conventions import general_network
from switch_np.conventions.general_network import NetworkCache
from switch_np.conventions.table import Conventions

NAMES = ("w_in", "w_gate", "w_out")


class SharedCache(NamedTuple):
    """Saved for backward: the network's cache or None, whether there is a bias, who is served."""

    network: NetworkCache | None
    biased: bool
    served_T: np.ndarray


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, served_T: np.ndarray,
            conventions: Conventions) -> tuple[np.ndarray, SharedCache]:
    """Return what is added to y (T, D).

    >>> bias = {"shared_b_out": np.array([3.0])}
    >>> forward(bias, np.ones((1, 1)), np.array([True]), Conventions(shared_bias=True))[0].tolist()
    [[3.0]]
    """
    y_TD, cache = np.zeros_like(x_TD), None
    if conventions.shared_experts:
        weights = {name: params[f"shared_{name}"] for name in NAMES if f"shared_{name}" in params}
        y_TD, cache = general_network.forward(weights, x_TD, kind=conventions.expert_activation)
    if conventions.shared_bias:
        y_TD = y_TD + params["shared_b_out"]
    return y_TD * served_T[:, None], SharedCache(cache, conventions.shared_bias, served_T)


def backward(d_y_TD: np.ndarray, cache: SharedCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the shared parameters."""
    d_y_TD = d_y_TD * cache.served_T[:, None]
    d_x_TD, grads = np.zeros_like(d_y_TD), {}
    if cache.network is not None:
        d_x_TD, found = general_network.backward(d_y_TD, cache.network)
        grads = {f"shared_{name}": value for name, value in found.items()}
    if cache.biased:
        grads["shared_b_out"] = d_y_TD.sum(axis=0)
    return d_x_TD, grads
