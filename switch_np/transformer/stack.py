"""A stack of blocks with the last norm; one position bias serves all blocks.

Source: T5 (Raffel et al., JMLR 21, 2020). Encoder and decoder are both such a stack: the decoder's
is causal, and attends to the encoder's output, its memory.

Forward:   bias = position bias (+ causal mask);  x = dropout(x);  x = block(x, bias, memory) for
           each;  y = dropout(norm(x))
Backward:  the same, last line first. The gradients that the blocks give the one bias, and the one
           memory, are summed.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np import switch_layer
from switch_np.operations import dropout
from switch_np.switch.layer import LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import attention, batch_slices, block, norm, position_bias
from switch_np.transformer.model_config import ModelConfig, StackConfig
from switch_np.transformer.model_noise import BlockNoise, StackNoise


class StackCache(NamedTuple):
    """Saved for backward, or for the next step of generation."""

    bias: position_bias.BiasCache
    blocks: list[block.BlockCache]
    norm: norm.NormCache
    noise: StackNoise
    rate: float

    @property
    def seen(self) -> int:
        """How many tokens it has keys and values of."""
        return int(self.blocks[0].slices[0].self_attention.attention.k_BHMA.shape[2])


def forward(params: Mapping[str, Any], x_BSD: np.ndarray, config: ModelConfig, kind: StackConfig, *,
            padding_BS: np.ndarray | None = None, memory: np.ndarray | None = None,
            memory_padding: np.ndarray | None = None, noise: StackNoise = StackNoise(),
            plans: Iterable[Plan] = (), training: bool = False, past: StackCache | None = None,
            layer: block.SwitchLayer = switch_layer.forward
            ) -> tuple[np.ndarray, list[LayerOutput], StackCache]:
    """Return the normed stream (B, S, D) and what each Switch layer gave.

    `plans` holds a decision to replay per Switch layer, or nothing. The rest is as in
    `block.forward`.
    """
    s, seen = x_BSD.shape[1], 0 if past is None else past.seen
    bias_HSM, bias_cache = position_bias.forward(
        params["position_bias"], s, seen + s, config.max_distance, not kind.causal, seen)
    if kind.causal:
        mask_SM = attention.causal_mask(s, seen + s, seen)
        bias_HSM = bias_HSM + mask_SM.astype(bias_HSM.real.dtype)
    remaining, noises = iter(plans), noise.blocks or (BlockNoise(),) * kind.num_layers
    switched: list[LayerOutput] = []
    x_BSD, caches = dropout.forward(x_BSD, noise.first, config.dropout), []
    for number in range(kind.num_layers):
        x_BSD, outs, cache = block.forward(
            params[str(number)], x_BSD, bias_HSM, config, padding_BS=padding_BS, memory=memory,
            memory_padding=memory_padding, noise=noises[number], plans=remaining,
            training=training, past=past and past.blocks[number], layer=layer)
        caches.append(cache)
        switched += outs
    y_BSD, norm_cache = norm.forward(params["final_norm"], x_BSD, config.norm_epsilon)
    y_BSD = dropout.forward(y_BSD, noise.last, config.dropout)
    return y_BSD, switched, StackCache(bias_cache, caches, norm_cache, noise, config.dropout)


def backward(d_y_BSD: np.ndarray, cache: StackCache, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0, d_probs: np.ndarray | None = None
             ) -> tuple[np.ndarray, dict[str, Any], np.ndarray | None]:
    """Return d_x (B, S, D), the gradients of the parameters, and d_memory (B, M, D) or None.

    `d_probs` (T, E) is what reaches the probabilities of every Switch layer from pooled losses.
    """
    grads: dict[str, Any] = {}
    d_y_BSD = dropout.backward(d_y_BSD, cache.noise.last, cache.rate)
    d_x_BSD, grads["final_norm"] = norm.backward(d_y_BSD, cache.norm)
    d_bias, d_memory = [], []
    for layer in reversed(range(len(cache.blocks))):
        d_x_BSD, d_bias_HSM, grads[str(layer)], d_of_block = block.backward(
            d_x_BSD, cache.blocks[layer], d_balance_loss, d_z_loss, d_probs)
        d_bias.append(d_bias_HSM)
        d_memory += [] if d_of_block is None else [d_of_block]
    grads["position_bias"] = position_bias.backward(batch_slices.add(d_bias), cache.bias)
    return (dropout.backward(d_x_BSD, cache.noise.first, cache.rate), grads,
            batch_slices.add(d_memory) if d_memory else None)
