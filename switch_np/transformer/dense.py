"""The dense feed-forward network of a block without experts, as the config asks for it.

The formulas are `switch.feed_forward`'s (T5 1.0) and `conventions.general_network`'s (T5 1.1).
"""

from collections.abc import Mapping

import numpy as np

from switch_np.conventions import general_network
from switch_np.conventions.general_network import NetworkCache
from switch_np.conventions.units import Units
from switch_np.switch import feed_forward
from switch_np.switch.feed_forward import FeedForwardCache
from switch_np.transformer.model_config import ModelConfig

DenseCache = FeedForwardCache | NetworkCache


def forward(params: Mapping[str, np.ndarray], x_BSD: np.ndarray, config: ModelConfig,
            keep_TF: np.ndarray | None = None) -> tuple[np.ndarray, DenseCache]:
    """Return y (B, S, D); `keep_TF` is the dropout mask of the hidden units."""
    x_TD, rate = x_BSD.reshape(-1, x_BSD.shape[-1]), config.dropout
    cache: DenseCache
    if config.gated or config.activation != "relu":
        y_TD, cache = general_network.forward(params, x_TD, keep_TF, rate,
                                               Units(config.activation))
    else:
        y_TD, cache = feed_forward.forward(params, x_TD, keep_TF, rate)
    return y_TD.reshape(x_BSD.shape), cache


def backward(d_y_BSD: np.ndarray, cache: DenseCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (B, S, D) and the gradients of the weights."""
    d_y_TD = d_y_BSD.reshape(-1, d_y_BSD.shape[-1])
    if isinstance(cache, FeedForwardCache):
        d_x_TD, grads = feed_forward.backward(d_y_TD, cache)
    else:
        d_x_TD, grads = general_network.backward(d_y_TD, cache)
    return d_x_TD.reshape(d_y_BSD.shape), grads
