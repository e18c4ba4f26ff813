"""A stack of blocks, between the embedding and the last norm; one position bias serves them all.

Source: T5 (Raffel et al., JMLR 21, 2020).

Forward:   bias = position bias (+ causal mask);  x = dropout(x);  x = block(x, bias) for each;
           y = dropout(norm(x))
Backward:  the same, last line first. Every block adds to the gradient of the one bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import dropout
from switch_np.switch.layer import LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import attention, block, norm, position_bias
from switch_np.transformer.block import BlockNoise
from switch_np.transformer.config import ModelConfig


class StackNoise(NamedTuple):
    """The dropout masks before and after the blocks, and each block's noise."""

    first: np.ndarray | None
    blocks: tuple[BlockNoise, ...]
    last: np.ndarray | None


class StackCache(NamedTuple):
    """Kept: the caches of the parts."""

    bias: position_bias.BiasCache
    blocks: list[block.BlockCache]
    norm: norm.NormCache
    noise: StackNoise
    rate: float


def draw_noise(rng: np.random.Generator, config: ModelConfig, b: int, s: int,
               dtype: Any) -> StackNoise:
    """Draw all that one training step of B * S tokens needs, in one fixed order."""
    shape = (b, s, config.d_model)
    return StackNoise(
        dropout.draw(rng, shape, config.dropout),
        tuple(block.draw_noise(rng, config, layer, b, s, dtype)
              for layer in range(config.num_layers)),
        dropout.draw(rng, shape, config.dropout))


def no_noise(config: ModelConfig) -> StackNoise:
    """Return the noise of evaluation: none."""
    return StackNoise(None, (BlockNoise(),) * config.num_layers, None)


def forward(params: Mapping[str, Any], x_BSD: np.ndarray, config: ModelConfig, *,
            padding_BS: np.ndarray | None, noise: StackNoise, plans: Sequence[Plan] | None,
            training: bool) -> tuple[np.ndarray, list[LayerOutput], StackCache]:
    """Return the normed stream (B, S, D) and what each Switch layer gave."""
    s = x_BSD.shape[1]
    bias_HSM, bias_cache = position_bias.forward(
        params["position_bias"], s, s, config.max_distance)
    bias_HSM = bias_HSM + attention.causal_mask(s, s).astype(bias_HSM.real.dtype)
    remaining = iter(plans or ())
    x_BSD = dropout.forward(x_BSD, noise.first, config.dropout)
    switched, caches = [], []
    for layer in range(config.num_layers):
        plan = next(remaining, None) if config.is_switch(layer) else None
        x_BSD, out, cache = block.forward(
            params[str(layer)], x_BSD, bias_HSM, config, padding_BS=padding_BS,
            noise=noise.blocks[layer], plan=plan, training=training)
        caches.append(cache)
        switched += [out] if out is not None else []
    y_BSD, norm_cache = norm.forward(params["final_norm"], x_BSD)
    y_BSD = dropout.forward(y_BSD, noise.last, config.dropout)
    return y_BSD, switched, StackCache(bias_cache, caches, norm_cache, noise, config.dropout)


def backward(d_y_BSD: np.ndarray, cache: StackCache, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0) -> tuple[np.ndarray, dict[str, Any]]:
    """Return d_x (B, S, D) and the gradients of the parameters."""
    grads: dict[str, Any] = {}
    d_y_BSD = dropout.backward(d_y_BSD, cache.noise.last, cache.rate)
    d_x_BSD, grads["final_norm"] = norm.backward(d_y_BSD, cache.norm)
    d_bias_HSM = 0
    for layer in reversed(range(len(cache.blocks))):
        d_x_BSD, d_mine_HSM, grads[str(layer)] = block.backward(
            d_x_BSD, cache.blocks[layer], d_balance_loss, d_z_loss)
        d_bias_HSM = d_bias_HSM + d_mine_HSM
    grads["position_bias"] = position_bias.backward(d_bias_HSM, cache.bias)
    return dropout.backward(d_x_BSD, cache.noise.first, cache.rate), grads
