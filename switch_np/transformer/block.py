"""One block: attention and a feed-forward network, each inside a residual connection.

Source: T5 (Raffel et al., JMLR 21, 2020), pre-norm; the Switch layer in place of the dense network
from figure 2 of the Switch paper.

Forward:   x = x + dropout(attention(norm(x))),  x = x + dropout(feed-forward(norm(x)))
Backward:  the same two lines, last one first; at each `+` the gradient goes both ways, and the two
           that come back are added. The residual is what carries a dropped token on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import dropout
from switch_np.switch import layer as switch_layer
from switch_np.switch.layer import LayerOutput
from switch_np.switch.noise import Noise, draw_noise as draw_switch_noise
from switch_np.switch.plan import Plan
from switch_np.transformer import attention, feed_forward, norm
from switch_np.transformer.config import ModelConfig


class BlockNoise(NamedTuple):
    """A block's dropout masks (None where the rate is 0), and its Switch layer's noise."""

    attention_probs: np.ndarray | None = None
    attention_out: np.ndarray | None = None
    hidden: np.ndarray | None = None
    feed_forward_out: np.ndarray | None = None
    switch: Noise = Noise()


class BlockCache(NamedTuple):
    """Kept: the caches of the parts; `switch` is None in a dense block, `dense` in a Switch one."""

    attention_norm: norm.NormCache
    attention: attention.AttentionCache
    feed_forward_norm: norm.NormCache
    switch: switch_layer.LayerCache | None
    dense: feed_forward.FeedForwardCache | None
    noise: BlockNoise
    rate: float


def draw_noise(rng: np.random.Generator, config: ModelConfig, layer: int, b: int, s: int,
               dtype: Any) -> BlockNoise:
    """Draw all that block `layer` needs for one training step of B * S tokens."""
    rate, is_switch = config.dropout, config.is_switch(layer)
    return BlockNoise(
        attention_probs=dropout.draw(rng, (b, config.num_heads, s, s), rate),
        attention_out=dropout.draw(rng, (b, s, config.d_model), rate),
        hidden=None if is_switch else dropout.draw(rng, (b * s, config.d_ff), rate),
        feed_forward_out=dropout.draw(rng, (b, s, config.d_model), rate),
        switch=draw_switch_noise(rng, config.switch, b * s, config.d_model, config.d_ff, dtype)
        if is_switch else Noise())


def forward(params: Mapping[str, Any], x_BSD: np.ndarray, bias_HSM: np.ndarray,
            config: ModelConfig, *, padding_BS: np.ndarray | None = None,
            noise: BlockNoise = BlockNoise(), plan: Plan | None = None,
            training: bool = False) -> tuple[np.ndarray, LayerOutput | None, BlockCache]:
    """Return the new residual stream (B, S, D), and what the Switch layer gave (None if dense)."""
    rate = config.dropout
    normed_BSD, attention_norm = norm.forward(params["attention_norm"], x_BSD)
    out_BSD, attended = attention.forward(params["attention"], normed_BSD, normed_BSD, bias_HSM,
                                          padding_BS, noise.attention_probs, rate)
    x_BSD = x_BSD + dropout.forward(out_BSD, noise.attention_out, rate)

    normed_BSD, feed_forward_norm = norm.forward(params["feed_forward_norm"], x_BSD)
    switched = switch_cache = dense_cache = None
    if "switch" in params:
        switched, switch_cache = switch_layer.forward(
            params["switch"], normed_BSD, config.switch, plan=plan, padding=padding_BS,
            noise=noise.switch, training=training)
        out_BSD = switched.y
    else:
        out_TD, dense_cache = feed_forward.forward(
            params["feed_forward"], normed_BSD.reshape(-1, config.d_model), noise.hidden, rate)
        out_BSD = out_TD.reshape(x_BSD.shape)
    x_BSD = x_BSD + dropout.forward(out_BSD, noise.feed_forward_out, rate)
    return x_BSD, switched, BlockCache(attention_norm, attended, feed_forward_norm, switch_cache,
                                       dense_cache, noise, rate)


def backward(d_x_BSD: np.ndarray, cache: BlockCache, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return d_x (B, S, D), d_bias (H, S, M) and the gradients of the parameters."""
    grads: dict[str, Any] = {}
    d_out_BSD = dropout.backward(d_x_BSD, cache.noise.feed_forward_out, cache.rate)
    if cache.switch is not None:
        d_normed_BSD, grads["switch"] = switch_layer.backward(
            d_out_BSD, cache.switch, d_balance_loss, d_z_loss)
    else:
        d_normed_TD, grads["feed_forward"] = feed_forward.backward(
            d_out_BSD.reshape(-1, d_out_BSD.shape[-1]), cache.dense)
        d_normed_BSD = d_normed_TD.reshape(d_x_BSD.shape)
    d_branch_BSD, grads["feed_forward_norm"] = norm.backward(d_normed_BSD, cache.feed_forward_norm)
    d_x_BSD = d_x_BSD + d_branch_BSD

    d_out_BSD = dropout.backward(d_x_BSD, cache.noise.attention_out, cache.rate)
    d_query_BSD, d_memory_BSD, d_bias_HSM, grads["attention"] = attention.backward(
        d_out_BSD, cache.attention)
    d_branch_BSD, grads["attention_norm"] = norm.backward(
        d_query_BSD + d_memory_BSD, cache.attention_norm)
    return d_x_BSD + d_branch_BSD, d_bias_HSM, grads
