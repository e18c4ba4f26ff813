"""Self-attention of a block: the normed stream looks at itself.

Source: T5 (Raffel et al., JMLR 21, 2020), pre-norm.

Forward:   n = norm(x),  y = attention(n, n). In generation, keys and values of the tokens before
           these come first.
Backward:  n is handed in twice, so that two gradients come back: d_n = d_queries + d_memory, and
           norm takes their sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.transformer import attention, norm
from switch_np.transformer.model_config import ModelConfig


class SelfAttentionCache(NamedTuple):
    """Saved for backward: the caches of norm and attention."""

    norm: norm.NormCache
    attention: attention.AttentionCache


def forward(params: Mapping[str, Any], x_BSD: np.ndarray, bias_HSM: np.ndarray,
            config: ModelConfig, padding_BM: np.ndarray | None = None,
            keep_BHSM: np.ndarray | None = None,
            past: tuple[np.ndarray, np.ndarray] | None = None
            ) -> tuple[np.ndarray, SelfAttentionCache]:
    """Return y (B, S, D); `past` holds keys and values, the rest is `attention.forward`'s."""
    normed_BSD, norm_cache = norm.forward(params["attention_norm"], x_BSD, config.norm_epsilon)
    if past is None:
        y_BSD, cache = attention.forward(params["attention"], normed_BSD, normed_BSD, bias_HSM,
                                         padding_BM, keep_BHSM, config.dropout)
    else:
        y_BSD, cache = attention.step(params["attention"], normed_BSD, past, bias_HSM, padding_BM,
                                      grow=True)
    return y_BSD, SelfAttentionCache(norm_cache, cache)


def backward(d_y_BSD: np.ndarray, cache: SelfAttentionCache
             ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return d_x (B, S, D), d_bias (H, S, M) and the parameters' gradients."""
    grads: dict[str, Any] = {}
    d_queries_BSD, d_memory_BSD, d_bias_HSM, grads["attention"] = attention.backward(
        d_y_BSD, cache.attention)
    d_x_BSD, grads["attention_norm"] = norm.backward(d_queries_BSD + d_memory_BSD, cache.norm)
    return d_x_BSD, d_bias_HSM, grads
