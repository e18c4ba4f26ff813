"""Cross-attention of a decoder's block: the normed stream looks at the encoder's output.

Source: T5 (Raffel et al., JMLR 21, 2020), pre-norm; there are no relative positions between the two
stacks, so the bias is 0.

Forward:   y = attention(norm(x), memory). In generation, keys and values of the memory are those
           that the first step made.
Backward:  d_x = norm's of d_queries; d_memory goes to the encoder; the bias has no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.transformer import attention, norm
from switch_np.transformer.model_config import ModelConfig


class CrossAttentionCache(NamedTuple):
    """Saved for backward: the caches of norm and attention."""

    norm: norm.NormCache
    attention: attention.AttentionCache


def forward(params: Mapping[str, Any], x_BSD: np.ndarray, memory_BMD: np.ndarray | None,
            config: ModelConfig, padding_BM: np.ndarray | None = None,
            keep_BHSM: np.ndarray | None = None,
            past: tuple[np.ndarray, np.ndarray] | None = None
            ) -> tuple[np.ndarray, CrossAttentionCache]:
    """Return y (B, S, D); `past` holds keys and values, in place of the memory."""
    normed_BSD, norm_cache = norm.forward(params["cross_norm"], x_BSD, config.norm_epsilon)
    keys = memory_BMD.shape[1] if past is None else past[0].shape[2]
    bias_HSM = np.broadcast_to(np.zeros(1, x_BSD.real.dtype),      # a view of one 0
                               (config.num_heads, x_BSD.shape[1], keys))
    if past is None:
        y_BSD, cache = attention.forward(params["cross_attention"], normed_BSD, memory_BMD,
                                         bias_HSM, padding_BM, keep_BHSM, config.dropout)
    else:
        y_BSD, cache = attention.step(params["cross_attention"], normed_BSD, past, bias_HSM,
                                      padding_BM, grow=False)
    return y_BSD, CrossAttentionCache(norm_cache, cache)


def backward(d_y_BSD: np.ndarray, cache: CrossAttentionCache
             ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return d_x (B, S, D), d_memory (B, M, D) and the parameters' gradients."""
    grads: dict[str, Any] = {}
    d_queries_BSD, d_memory_BMD, _, grads["cross_attention"] = attention.backward(
        d_y_BSD, cache.attention)
    d_x_BSD, grads["cross_norm"] = norm.backward(d_queries_BSD, cache.norm)
    return d_x_BSD, d_memory_BMD, grads
