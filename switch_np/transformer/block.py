"""One block: attention and a feed-forward network, each inside a residual connection.

Source: T5 (Raffel et al., JMLR 21, 2020), pre-norm; the Switch layer in place of the dense network
from figure 2 of the Switch paper. A decoder that has an encoder looks at its output in between.

Forward:   x = x + dropout(attention(norm(x))),  x = x + dropout(cross-attention(norm(x), memory)),
           x = x + dropout(feed-forward(norm(x)))
Backward:  the same lines, last one first; at each `+` the gradient goes both ways, and the two
           that come back are added. The residual is what carries a dropped token on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import dropout, threads
from switch_np.switch import layer as switch_layer
from switch_np.switch.layer import LayerOutput
from switch_np.switch.noise import Noise, draw_noise as draw_switch_noise
from switch_np.switch.plan import Plan
from switch_np.transformer import attention, feed_forward, gated_feed_forward, norm, parts
from switch_np.transformer.config import ModelConfig


class BlockNoise(NamedTuple):
    """A block's dropout masks (None where the rate is 0), and its Switch layer's noise."""

    attention_probs: np.ndarray | None = None
    attention_out: np.ndarray | None = None
    cross_probs: np.ndarray | None = None
    cross_out: np.ndarray | None = None
    hidden: np.ndarray | None = None
    feed_forward_out: np.ndarray | None = None
    switch: Noise = Noise()


class CrossCache(NamedTuple):
    """Kept: the caches of norm and cross-attention."""

    norm: norm.NormCache
    attention: attention.AttentionCache


class PartCache(NamedTuple):
    """Kept of one part of the batch: the caches of its operations, and its dropout masks.

    `cross` is None without an encoder, `dense` in a Switch block.
    """

    attention_norm: norm.NormCache
    attention: attention.AttentionCache
    cross: CrossCache | None
    feed_forward_norm: norm.NormCache
    dense: feed_forward.FeedForwardCache | gated_feed_forward.GatedCache | None
    noise: BlockNoise


class BlockCache(NamedTuple):
    """Kept: the parts of the batch, and the Switch layer of all; `switch` is None if dense."""

    parts: list[PartCache]
    switch: switch_layer.LayerCache | None
    noise: BlockNoise
    rate: float


def draw_noise(rng: np.random.Generator, config: ModelConfig, is_switch: bool, b: int, s: int,
               dtype: Any, memory_length: int | None = None) -> BlockNoise:
    """Draw all that a block needs for one training step of B * S tokens."""
    rate, cross = config.dropout, memory_length is not None
    return BlockNoise(
        attention_probs=dropout.draw(rng, (b, config.num_heads, s, s), rate),
        attention_out=dropout.draw(rng, (b, s, config.d_model), rate),
        cross_probs=dropout.draw(rng, (b, config.num_heads, s, memory_length), rate)
        if cross else None,
        cross_out=dropout.draw(rng, (b, s, config.d_model), rate) if cross else None,
        hidden=None if is_switch else dropout.draw(rng, (b * s, config.d_ff), rate),
        feed_forward_out=dropout.draw(rng, (b, s, config.d_model), rate),
        switch=draw_switch_noise(rng, config.switch, b * s, config.d_model, config.d_ff, dtype)
        if is_switch else Noise())


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
    s = x_BSD.shape[1]
    kept = (None, None) if past is None else _keys_values(past, cross="cross_attention" in params)

    def run(part: slice) -> tuple[np.ndarray, np.ndarray, PartCache]:
        own, crossed = (pair and (pair[0][part], pair[1][part]) for pair in kept)
        return _run(params, x_BSD[part], bias_HSM, config, parts.take(padding_BS, part),
                    parts.take(memory, part), parts.take(memory_padding, part),
                    _noise_of(noise, part, s), own, crossed)

    x, normed, caches = zip(*threads.each(run, parts.cut(*x_BSD.shape), size=x_BSD.size))
    x_BSD, switched, switch_cache = parts.join(x), None, None
    if "switch" in params:
        switched, switch_cache = switch_layer.forward(
            params["switch"], parts.join(normed), config.switch, plan=plan, padding=padding_BS,
            noise=noise.switch, training=training)
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

    def run(part: slice, mine: PartCache) -> tuple[Any, ...]:
        return _run_backward(d_x_BSD[part], parts.take(d_normed_BSD, part), mine, cache.rate)

    d_x, d_bias, more, d_memory = zip(*threads.each(
        run, parts.cut(*d_x_BSD.shape), cache.parts, size=d_x_BSD.size))
    return (parts.join(d_x), parts.add(d_bias), grads | parts.add_trees(more),
            None if d_memory[0] is None else parts.join(d_memory))


def _run(params: Mapping[str, Any], x_BSD: np.ndarray, bias_HSM: np.ndarray, config: ModelConfig,
         padding_BS: np.ndarray | None, memory: np.ndarray | None,
         memory_padding: np.ndarray | None, noise: BlockNoise,
         past: tuple[np.ndarray, np.ndarray] | None,
         cross_past: tuple[np.ndarray, np.ndarray] | None
         ) -> tuple[np.ndarray, np.ndarray, PartCache]:
    """Take a part through the block; stop before a Switch layer, whose input comes second."""
    rate, crossed, dense = config.dropout, None, None
    normed_BSD, attention_norm = norm.forward(params["attention_norm"], x_BSD, config.norm_epsilon)
    if past is None:
        out_BSD, attended = attention.forward(params["attention"], normed_BSD, normed_BSD, bias_HSM,
                                              padding_BS, noise.attention_probs, rate)
    else:
        out_BSD, attended = attention.step(params["attention"], normed_BSD, past, bias_HSM,
                                           padding_BS, grow=True)
    x_BSD = x_BSD + dropout.forward(out_BSD, noise.attention_out, rate)

    if "cross_attention" in params:
        out_BSD, crossed = _cross_attend(params, x_BSD, config, memory, memory_padding, noise,
                                         cross_past)
        x_BSD = x_BSD + dropout.forward(out_BSD, noise.cross_out, rate)

    normed_BSD, feed_forward_norm = norm.forward(
        params["feed_forward_norm"], x_BSD, config.norm_epsilon)
    if "feed_forward" in params:
        out_BSD, dense = _feed_forward(params["feed_forward"], normed_BSD, config, noise)
        x_BSD = x_BSD + dropout.forward(out_BSD, noise.feed_forward_out, rate)
    return x_BSD, normed_BSD, PartCache(attention_norm, attended, crossed, feed_forward_norm, dense,
                                        noise)


def _run_backward(d_x_BSD: np.ndarray, d_normed_BSD: np.ndarray | None, cache: PartCache,
                  rate: float) -> tuple[np.ndarray, np.ndarray, dict[str, Any], np.ndarray | None]:
    """Return what `backward` does, of one part; d_normed comes from a Switch layer, or is None."""
    grads: dict[str, Any] = {}
    d_memory = None
    if d_normed_BSD is None:
        d_out_BSD = dropout.backward(d_x_BSD, cache.noise.feed_forward_out, rate)
        kind = (gated_feed_forward if isinstance(cache.dense, gated_feed_forward.GatedCache)
                else feed_forward)
        d_normed_TD, grads["feed_forward"] = kind.backward(
            d_out_BSD.reshape(-1, d_out_BSD.shape[-1]), cache.dense)
        d_normed_BSD = d_normed_TD.reshape(d_x_BSD.shape)
    d_branch_BSD, grads["feed_forward_norm"] = norm.backward(d_normed_BSD, cache.feed_forward_norm)
    d_x_BSD = d_x_BSD + d_branch_BSD

    if cache.cross is not None:
        d_out_BSD = dropout.backward(d_x_BSD, cache.noise.cross_out, rate)
        d_query_BSD, d_memory, _, grads["cross_attention"] = attention.backward(
            d_out_BSD, cache.cross.attention)
        d_branch_BSD, grads["cross_norm"] = norm.backward(d_query_BSD, cache.cross.norm)
        d_x_BSD = d_x_BSD + d_branch_BSD

    d_out_BSD = dropout.backward(d_x_BSD, cache.noise.attention_out, rate)
    d_query_BSD, d_keys_BSD, d_bias_HSM, grads["attention"] = attention.backward(
        d_out_BSD, cache.attention)
    d_branch_BSD, grads["attention_norm"] = norm.backward(
        d_query_BSD + d_keys_BSD, cache.attention_norm)
    return d_x_BSD + d_branch_BSD, d_bias_HSM, grads, d_memory


def _noise_of(noise: BlockNoise, part: slice, s: int) -> BlockNoise:
    """Return the dropout masks of a part; those of hidden units lie by token, not by sequence."""
    masks = {name: parts.take(mask, part) for name, mask in noise._asdict().items()
             if name not in ("hidden", "switch")}
    return BlockNoise(**masks, hidden=parts.take(
        noise.hidden, slice(part.start * s, part.stop * s)))


def _keys_values(past: BlockCache, cross: bool) -> tuple[Any, Any]:
    """Return what a step looks at: keys and values of self- and of cross-attention."""
    def joined(caches: list[attention.AttentionCache]) -> tuple[np.ndarray, np.ndarray]:
        return (parts.join([cache.k_BHMA for cache in caches]),
                parts.join([cache.v_BHMA for cache in caches]))

    return (joined([part.attention for part in past.parts]),
            joined([part.cross.attention for part in past.parts]) if cross else None)


def _cross_attend(params: Mapping[str, Any], x_BSD: np.ndarray, config: ModelConfig,
                  memory_BMD: np.ndarray | None, padding_BM: np.ndarray | None, noise: BlockNoise,
                  past: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, CrossCache]:
    """Look at the memory, or at the keys and values that a step before has made of it."""
    normed_BSD, norm_cache = norm.forward(params["cross_norm"], x_BSD, config.norm_epsilon)
    keys = memory_BMD.shape[1] if past is None else past[0].shape[2]
    # T5 has no relative positions between the stacks; a view of one zero costs no memory.
    bias_HSM = np.broadcast_to(np.zeros(1, x_BSD.real.dtype),
                               (config.num_heads, x_BSD.shape[1], keys))
    if past is None:
        out_BSD, cache = attention.forward(
            params["cross_attention"], normed_BSD, memory_BMD, bias_HSM, padding_BM,
            noise.cross_probs, config.dropout)
    else:
        out_BSD, cache = attention.step(params["cross_attention"], normed_BSD, past, bias_HSM,
                                        padding_BM, grow=False)
    return out_BSD, CrossCache(norm_cache, cache)


def _feed_forward(params: Mapping[str, Any], x_BSD: np.ndarray, config: ModelConfig,
                  noise: BlockNoise) -> tuple[np.ndarray, Any]:
    """Apply the dense network, in the form that the config names."""
    x_TD = x_BSD.reshape(-1, config.d_model)
    if config.gated or config.activation != "relu":
        y_TD, cache = gated_feed_forward.forward(
            params, x_TD, config.activation, noise.hidden, config.dropout)
    else:
        y_TD, cache = feed_forward.forward(params, x_TD, noise.hidden, config.dropout)
    return y_TD.reshape(x_BSD.shape), cache
