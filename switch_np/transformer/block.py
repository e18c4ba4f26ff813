"""One block: attention and a feed-forward network, each inside a residual connection.

Source: T5 (Raffel et al., JMLR 21, 2020), pre-norm; figure 2 of the Switch paper for the Switch
layer in place of the dense network. A decoder with an encoder looks at its output, the memory.

Forward:   n = norm(x),  x = x + dropout(attention(n, n)), or attend(switch_heads(n));
           x = x + dropout(attention(norm(x), memory));   x = x + dropout(feed-forward(norm(x)))
Backward:  the same lines, last one first. At each `+` the gradient goes both ways, and the two that
           come back are added. There are no positions between the stacks, so the bias of the
           second attention is 0 and has no gradient. The residual carries a dropped token on.

Sequences meet in the Switch layers alone. All between them, or all of a block without any, computes
one slice of the batch at a time; `schedule` says which.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from switch_np import switch_layer
from switch_np.operations import dropout, schedule
from switch_np.switch.layer import LayerCache, LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import attention, batch_slices, dense, norm, switch_heads
from switch_np.transformer.batch_slices import KeysAndValues
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.model_noise import BlockNoise, of_slice


SwitchLayer = Callable[..., tuple[LayerOutput, LayerCache]]         # such as switch_layer.forward


class AttentionBranch(NamedTuple):
    """Saved for backward: the caches of norm and attention."""

    norm: norm.NormCache
    attention: attention.AttentionCache


class SliceCache(NamedTuple):
    """Saved for backward, of one slice of the batch: its operations' caches and dropout masks.

    `cross_attention` is None without an encoder, `dense` in a Switch block.
    """

    self_attention: AttentionBranch
    cross_attention: AttentionBranch | None
    norm: norm.NormCache
    dense: dense.DenseCache | None          # None in a Switch block
    noise: BlockNoise


class BlockCache(NamedTuple):
    """Saved for backward: the batch's slices, and the Switch layers of all (None if dense)."""

    slices: list[SliceCache]
    heads: switch_heads.HeadsCache | None
    switch: LayerCache | None
    noise: BlockNoise
    rate: float


def forward(params: Mapping[str, Any], x_BSD: np.ndarray, bias_HSM: np.ndarray,
            config: ModelConfig, *, padding_BS: np.ndarray | None = None,
            memory: np.ndarray | None = None, memory_padding: np.ndarray | None = None,
            noise: BlockNoise = BlockNoise(), plans: Iterator[Plan] = iter(()),
            training: bool = False, past: BlockCache | None = None,
            layer: SwitchLayer = switch_layer.forward
            ) -> tuple[np.ndarray, list[LayerOutput], BlockCache]:
    """Return the new residual stream (B, S, D), and what each Switch layer gave (none if dense).

    With `cross_attention` among its parameters a block attends to the memory (B, M, D), with
    `switch` it routes, with `attention.switch_q` so do its queries, keys and values. `bias_HSM`
    holds relative positions and the causal mask; padding is bool, True where a token is padding;
    noise is replayed, and a plan per Switch layer if `plans` has any; `training` selects the
    capacity factor. In generation `past` is the cache of the tokens before; such a cache has no
    backward. `layer` computes a Switch layer.
    """
    switched: list[LayerOutput] = []

    def switch(name: str, weights: Mapping[str, np.ndarray],
               x_BSD: np.ndarray) -> tuple[np.ndarray, LayerCache]:
        out, saved = layer(weights, x_BSD, config.switch, plan=next(plans, None), noise=getattr(
            noise, name), padding=padding_BS, training=training)
        switched.append(out)
        return out.y, saved

    made, heads_cache, switch_cache = None, None, None
    norms: Iterable[norm.NormCache | None] = repeat(None)
    if "switch_q" in params["attention"]:
        first, norms = zip(*schedule.sequences(lambda mine: norm.forward(
            params["attention_norm"], x_BSD[mine], config.norm_epsilon), x_BSD.shape))
        made, heads_cache = switch_heads.forward(
            params["attention"], batch_slices.join(first), config.num_heads, switch)
    before = past.slices if past else []
    whole = (made, padding_BS, memory, memory_padding,
             _keys_and_values(saved.self_attention for saved in before),
             _keys_and_values(saved.cross_attention for saved in before))

    def run(mine: slice, first: norm.NormCache | None
            ) -> tuple[np.ndarray, np.ndarray, SliceCache]:
        return _forward_slice(params, x_BSD[mine], bias_HSM, config,
                              of_slice(noise, mine, x_BSD.shape[1]), first,
                              *(batch_slices.take(value, mine) for value in whole))

    x, normed, caches = zip(*schedule.sequences(run, x_BSD.shape, norms))
    x_BSD = batch_slices.join(x)
    if "switch" in params:
        y_BSD, switch_cache = switch("switch", params["switch"], batch_slices.join(normed))
        x_BSD = x_BSD + dropout.forward(y_BSD, noise.feed_forward_out, config.dropout)
    return x_BSD, switched, BlockCache(list(caches), heads_cache, switch_cache, noise,
                                       config.dropout)


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

    d_x, d_bias, more, d_memory, d_made = zip(*schedule.sequences(
        run, d_x_BSD.shape, cache.slices))
    d_x_BSD, grads = batch_slices.join(d_x), grads | batch_slices.add(more)
    if cache.heads is not None:
        d_q_BHSA, d_k_BHSA, d_v_BHSA = map(batch_slices.join, zip(*d_made))
        d_first_BSD, made_grads = switch_heads.backward(
            d_q_BHSA, d_k_BHSA, d_v_BHSA, cache.heads, d_balance_loss, d_z_loss, d_probs)
        d_x, more = zip(*schedule.sequences(lambda mine, saved: norm.backward(
            d_first_BSD[mine], saved.self_attention.norm), d_x_BSD.shape, cache.slices))
        d_x_BSD = d_x_BSD + batch_slices.join(d_x)
        grads |= {"attention": made_grads | grads["attention"],
                  "attention_norm": batch_slices.add(more)}
    return (d_x_BSD, batch_slices.add(d_bias), grads,
            None if d_memory[0] is None else batch_slices.join(d_memory))


def _forward_slice(params: Mapping[str, Any], x_BSD: np.ndarray, bias: np.ndarray,
                   config: ModelConfig, noise: BlockNoise, normed: norm.NormCache | None,
                   made: tuple[np.ndarray, np.ndarray] | None, padding_BS: np.ndarray | None,
                   memory: np.ndarray | None, memory_padding: np.ndarray | None,
                   past: KeysAndValues | None, cross_past: KeysAndValues | None
                   ) -> tuple[np.ndarray, np.ndarray, SliceCache]:
    """Take a slice through the block; stop before a Switch layer, whose input comes second.

    `made`, with the cache of its norm, are the queries, and the keys and values, of Switch layers.
    """
    rate, epsilon = config.dropout, config.norm_epsilon
    cross_branch, dense_cache = None, None
    if normed is None or made is None:
        normed_BSD, normed = norm.forward(params["attention_norm"], x_BSD, epsilon)
        out_BSD, attended = attention.forward(params["attention"], normed_BSD, normed_BSD, bias,
                                              padding_BS, noise.attention_probs, rate, past)
    else:
        q_BHSA, kv_BHSA = made
        out_BSD, attended = attention.attend(params["attention"], q_BHSA, (kv_BHSA, kv_BHSA), bias,
                                             padding_BS, noise.attention_probs, rate, past)
    branch = AttentionBranch(normed, attended)
    x_BSD = x_BSD + dropout.forward(out_BSD, noise.attention_out, rate)
    if "cross_attention" in params:
        normed_BSD, normed = norm.forward(params["cross_norm"], x_BSD, epsilon)
        no_bias_H11 = np.zeros((config.num_heads, 1, 1), x_BSD.real.dtype)
        out_BSD, attended = attention.forward(
            params["cross_attention"], normed_BSD, memory if cross_past is None else None,
            no_bias_H11, memory_padding, noise.cross_probs, rate, cross_past)
        cross_branch = AttentionBranch(normed, attended)
        x_BSD = x_BSD + dropout.forward(out_BSD, noise.cross_out, rate)
    normed_BSD, normed = norm.forward(params["feed_forward_norm"], x_BSD, epsilon)
    if "feed_forward" in params:
        out_BSD, dense_cache = dense.forward(params["feed_forward"], normed_BSD, config,
                                             noise.hidden)
        x_BSD = x_BSD + dropout.forward(out_BSD, noise.feed_forward_out, rate)
    return x_BSD, normed_BSD, SliceCache(branch, cross_branch, normed, dense_cache, noise)


def _backward_slice(d_x_BSD: np.ndarray, d_normed_BSD: np.ndarray | None, cache: SliceCache,
                    rate: float) -> tuple[np.ndarray, np.ndarray, dict[str, Any],
                                          np.ndarray | None, list[np.ndarray]]:
    """Return what `backward` does, of one slice, and d_q, d_k, d_v if Switch layers made these.

    d_normed comes from a Switch layer, or is None.
    """
    grads: dict[str, Any] = {}
    d_memory = None
    if cache.dense is not None:
        d_out_BSD = dropout.backward(d_x_BSD, cache.noise.feed_forward_out, rate)
        d_normed_BSD, grads["feed_forward"] = dense.backward(d_out_BSD, cache.dense)
    assert d_normed_BSD is not None, "a block has a dense network or a Switch layer"
    d_branch_BSD, grads["feed_forward_norm"] = norm.backward(d_normed_BSD, cache.norm)
    d_x_BSD = d_x_BSD + d_branch_BSD
    if cache.cross_attention is not None:
        normed, attended = cache.cross_attention
        d_out_BSD = dropout.backward(d_x_BSD, cache.noise.cross_out, rate)
        d_queries_BSD, d_memory, _, grads["cross_attention"] = attention.backward(
            d_out_BSD, attended)
        d_branch_BSD, grads["cross_norm"] = norm.backward(d_queries_BSD, normed)
        d_x_BSD = d_x_BSD + d_branch_BSD
    normed, attended = cache.self_attention
    d_out_BSD = dropout.backward(d_x_BSD, cache.noise.attention_out, rate)
    if attended.x_BSD is None:
        products, d_bias_HSM, grads["attention"] = attention.attend_backward(d_out_BSD, attended)
        return d_x_BSD, d_bias_HSM, grads, d_memory, [x @ y for x, y in products.values()]
    d_normed_BSD, _, d_bias_HSM, grads["attention"] = attention.backward(d_out_BSD, attended)
    d_branch_BSD, grads["attention_norm"] = norm.backward(d_normed_BSD, normed)
    return d_x_BSD + d_branch_BSD, d_bias_HSM, grads, d_memory, []


def _keys_and_values(branches: Iterable[AttentionBranch | None]) -> KeysAndValues | None:
    """Return those of the whole batch, from its slices; None without any."""
    found = [(each.attention.k_BHMA, each.attention.v_BHMA) for each in branches if each]
    return batch_slices.join_pairs(found) if found else None
