"""One block: attention and a feed-forward network, each inside a residual connection.

Source: T5 (Raffel et al., JMLR 21, 2020), pre-norm; the Switch layer in place of the dense network
from figure 2 of the Switch paper. A decoder that has an encoder looks at its output in between.

Forward:   x = x + dropout(self-attention(x)),  x = x + dropout(cross-attention(x, memory)),
           x = x + dropout(feed-forward(norm(x))); the attentions norm their x, too.
Backward:  the same lines, last one first; at each `+` the gradient goes both ways, and the two
           that come back are added. The residual is what carries a dropped token on.

Sequences meet in the Switch layer alone. All before it, or all of a block without one, computes one
slice of the batch at a time; `schedule` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np import switch_layer
from switch_np.operations import dropout, schedule
from switch_np.switch.layer import LayerCache, LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import batch_slices, cross_attention, dense, norm, self_attention
from switch_np.transformer.attention import AttentionCache
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.cross_attention import CrossAttentionCache
from switch_np.transformer.dense import DenseCache
from switch_np.transformer.model_noise import BlockNoise, of_slice
from switch_np.transformer.norm import NormCache
from switch_np.transformer.self_attention import SelfAttentionCache


class SliceCache(NamedTuple):
    """Saved for backward, of one slice of the batch: its operations' caches and dropout masks.

    `cross_attention` is None without an encoder, `dense` in a Switch block.
    """

    self_attention: SelfAttentionCache
    cross_attention: CrossAttentionCache | None
    norm: NormCache
    dense: DenseCache | None
    noise: BlockNoise


class BlockCache(NamedTuple):
    """Saved for backward: the batch's slices, and the Switch layer of all (None if dense)."""

    slices: list[SliceCache]
    switch: LayerCache | None
    noise: BlockNoise
    rate: float


def forward(params: Mapping[str, Any], x_BSD: np.ndarray, bias_HSM: np.ndarray,
            config: ModelConfig, *, padding_BS: np.ndarray | None = None,
            memory: np.ndarray | None = None, memory_padding: np.ndarray | None = None,
            noise: BlockNoise = BlockNoise(), plan: Plan | None = None, training: bool = False,
            past: BlockCache | None = None) -> tuple[np.ndarray, LayerOutput | None, BlockCache]:
    """Return the new residual stream (B, S, D), and what the Switch layer gave (None if dense).

    Parameters
    ----------
    params
        The block's own: with `cross_attention` it looks at the memory, with `switch` it routes.
    x_BSD, bias_HSM
        The residual stream; relative positions and the causal mask.
    config
        Widths and rates.
    padding_BS
        Bool, True where a token is padding.
    memory, memory_padding
        The encoder's output (B, M, D), and where it is padding (B, M).
    noise, plan, training
        Dropout masks and router noise; decisions to replay; switches the capacity factor.
    past
        The cache of the tokens before these, whose keys and values then are looked at; the cache
        returned serves the next tokens, and no backward.
    """
    kept = (None, None) if past is None else _keys_and_values(past)

    def run(mine: slice) -> tuple[np.ndarray, np.ndarray, SliceCache]:
        own, crossed = (pair and (pair[0][mine], pair[1][mine]) for pair in kept)
        return _forward_slice(
            params, x_BSD[mine], bias_HSM, config, batch_slices.take(padding_BS, mine),
            batch_slices.take(memory, mine), batch_slices.take(memory_padding, mine),
            of_slice(noise, mine, x_BSD.shape[1]), own, crossed)

    x, normed, caches = zip(*schedule.sequences(run, x_BSD.shape))
    x_BSD, switched, switch_cache = batch_slices.join(x), None, None
    if "switch" in params:
        switched, switch_cache = switch_layer.forward(
            params["switch"], batch_slices.join(normed), config.switch, plan=plan,
            padding=padding_BS, noise=noise.switch, training=training)
        x_BSD = x_BSD + dropout.forward(switched.y, noise.feed_forward_out, config.dropout)
    return x_BSD, switched, BlockCache(list(caches), switch_cache, noise, config.dropout)


def backward(d_x_BSD: np.ndarray, cache: BlockCache, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0, d_probs: np.ndarray | None = None
             ) -> tuple[np.ndarray, np.ndarray, dict[str, Any], np.ndarray | None]:
    """Return d_x (B, S, D), d_bias (H, S, S), the parameters' gradients, d_memory (B, M, D).

    `d_probs` (T, E) is what reaches the router's probabilities from pooled losses; without an
    encoder d_memory is None.
    """
    d_normed_BSD, grads = None, {}
    if cache.switch is not None:
        d_out_BSD = dropout.backward(d_x_BSD, cache.noise.feed_forward_out, cache.rate)
        d_normed_BSD, grads["switch"] = switch_layer.backward(
            d_out_BSD, cache.switch, d_balance_loss, d_z_loss, d_probs=d_probs)

    def run(mine: slice, saved: SliceCache) -> tuple[Any, ...]:
        return _backward_slice(d_x_BSD[mine], batch_slices.take(d_normed_BSD, mine), saved,
                               cache.rate)

    d_x, d_bias, more, d_memory = zip(*schedule.sequences(run, d_x_BSD.shape, cache.slices))
    return (batch_slices.join(d_x), batch_slices.add(d_bias), grads | batch_slices.add_trees(more),
            None if d_memory[0] is None else batch_slices.join(d_memory))


def _forward_slice(params: Mapping[str, Any], x_BSD: np.ndarray, bias_HSM: np.ndarray,
                   config: ModelConfig, padding_BS: np.ndarray | None, memory: np.ndarray | None,
                   memory_padding: np.ndarray | None, noise: BlockNoise,
                   past: tuple[np.ndarray, np.ndarray] | None,
                   cross_past: tuple[np.ndarray, np.ndarray] | None
                   ) -> tuple[np.ndarray, np.ndarray, SliceCache]:
    """Take a slice through the block; stop before a Switch layer, whose input comes second."""
    rate, crossed, dense_cache = config.dropout, None, None
    out_BSD, attended = self_attention.forward(params, x_BSD, bias_HSM, config, padding_BS,
                                               noise.attention_probs, past)
    x_BSD = x_BSD + dropout.forward(out_BSD, noise.attention_out, rate)
    if "cross_attention" in params:
        out_BSD, crossed = cross_attention.forward(params, x_BSD, memory, config, memory_padding,
                                                   noise.cross_probs, cross_past)
        x_BSD = x_BSD + dropout.forward(out_BSD, noise.cross_out, rate)
    normed_BSD, normed = norm.forward(params["feed_forward_norm"], x_BSD, config.norm_epsilon)
    if "feed_forward" in params:
        out_BSD, dense_cache = dense.forward(params["feed_forward"], normed_BSD, config,
                                             noise.hidden)
        x_BSD = x_BSD + dropout.forward(out_BSD, noise.feed_forward_out, rate)
    return x_BSD, normed_BSD, SliceCache(attended, crossed, normed, dense_cache, noise)


def _backward_slice(d_x_BSD: np.ndarray, d_normed_BSD: np.ndarray | None, cache: SliceCache,
                    rate: float) -> tuple[np.ndarray, np.ndarray, dict[str, Any],
                                          np.ndarray | None]:
    """Return what `backward` does, of one slice; d_normed comes from a Switch layer, or is None."""
    grads: dict[str, Any] = {}
    d_memory = None
    if cache.dense is not None:
        d_out_BSD = dropout.backward(d_x_BSD, cache.noise.feed_forward_out, rate)
        d_normed_BSD, grads["feed_forward"] = dense.backward(d_out_BSD, cache.dense)
    d_branch_BSD, grads["feed_forward_norm"] = norm.backward(d_normed_BSD, cache.norm)
    d_x_BSD = d_x_BSD + d_branch_BSD
    if cache.cross_attention is not None:
        d_out_BSD = dropout.backward(d_x_BSD, cache.noise.cross_out, rate)
        d_branch_BSD, d_memory, more = cross_attention.backward(d_out_BSD, cache.cross_attention)
        d_x_BSD, grads = d_x_BSD + d_branch_BSD, grads | more
    d_out_BSD = dropout.backward(d_x_BSD, cache.noise.attention_out, rate)
    d_branch_BSD, d_bias_HSM, more = self_attention.backward(d_out_BSD, cache.self_attention)
    return d_x_BSD + d_branch_BSD, d_bias_HSM, grads | more, d_memory


def _keys_and_values(past: BlockCache) -> tuple[Any, Any]:
    """Return those that a step looks at, of the whole batch: of self- and of cross-attention."""
    def joined(caches: list[AttentionCache]) -> tuple[np.ndarray, np.ndarray]:
        return (batch_slices.join([cache.k_BHMA for cache in caches]),
                batch_slices.join([cache.v_BHMA for cache in caches]))

    own = [kept.self_attention.attention for kept in past.slices]
    crossed = [kept.cross_attention.attention for kept in past.slices
               if kept.cross_attention is not None]
    return joined(own), joined(crossed) if crossed else None
