"""The model: embedding, one stack of blocks or two, and the output head.

Source: section 2 of the Switch paper on T5 (Raffel et al., JMLR 21, 2020): encoder-decoder, or the
decoder alone.

Forward:   memory = encoder(table[source]);  y = decoder(table[ids], memory);
           logits = (y / √D) tableᵀ, or y W_head where the head is not tied;
           loss = cross-entropy + α Σ balance losses + c Σ z-losses
Backward:  d_y = d_logits table / √D or d_logits W_headᵀ; the decoder gives d_memory, which the
           encoder takes. A tied table gets up to three gradients, as head (d_logitsᵀ y / √D) and
           as embedding of either stack, and their sum is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache as remembered
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check, rounded, threads
from switch_np.switch.layer import LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import cross_entropy, embedding, parts, router_losses, stack
from switch_np.transformer.batch import (
    Batch, check_ids, check_memory, check_source, targets_that_count)
from switch_np.transformer.config import ModelConfig, StackConfig
from switch_np.transformer.parameters import check_params, init
from switch_np.transformer.router_losses import RouterLosses
from switch_np.transformer.stack import StackCache, StackNoise

__all__ = ["Batch", "Loss", "backward", "decode", "draw_noise", "encode", "forward", "init", "loss",
           "loss_and_grads"]


class Loss(NamedTuple):
    """The objective and its parts, scalars in nats per token.

    Attributes
    ----------
    total
        cross_entropy + balance_coef * sum(balance) + z_coef * sum(z): what is differentiated.
    cross_entropy
        Mean over the targets that count.
    balance, z
        Load-balancing losses and z-losses without their coefficients: one per Switch layer, or per
        stack where they are pooled.
    plans
        The plan of each Switch layer, in the order of `config.switch_names`.
    """

    total: np.ndarray
    cross_entropy: np.ndarray
    balance: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    plans: tuple[Plan, ...]


class ModelNoise(NamedTuple):
    """The noise of one step; `encoder` is None without one."""

    decoder: StackNoise
    encoder: StackNoise | None = None


class StackRun(NamedTuple):
    """Kept of one stack: its ids, its cache, and its router losses."""

    ids_BS: np.ndarray
    stack: StackCache
    losses: RouterLosses


class ModelCache(NamedTuple):
    """Kept: what the head read, the stacks by name, and the parameters by reference."""

    params: Mapping[str, Any]
    y_TD: np.ndarray
    runs: dict[str, StackRun]


def draw_noise(rng: np.random.Generator, config: ModelConfig, batch_shape: tuple[int, int],
               dtype: DTypeLike = np.float64,
               source_shape: tuple[int, int] | None = None) -> ModelNoise:
    """Draw the noise of one training step, to be handed in as `noise=` and replayed at will."""
    length = None if source_shape is None else source_shape[1]
    decoder = stack.draw_noise(rng, config, config.decoder, *batch_shape, dtype, length)
    if source_shape is None:
        return ModelNoise(decoder)
    return ModelNoise(decoder, stack.draw_noise(rng, config, config.encoder, *source_shape, dtype))


def forward(params: Mapping[str, Any], ids: np.ndarray, config: ModelConfig, *,
            padding: np.ndarray | None = None, source: np.ndarray | None = None,
            source_padding: np.ndarray | None = None, plans: Sequence[Plan] | None = None,
            noise: ModelNoise | None = None, rng: np.random.Generator | None = None,
            training: bool = False) -> tuple[np.ndarray, list[LayerOutput], ModelCache]:
    """Return the logits (B, S, V) of the token that follows each, and each Switch layer's output.

    Parameters
    ----------
    params, config
        The model.
    ids, padding
        (B, S) integers for the decoder; (B, S) bool, True where an id is padding.
    source, source_padding
        (B, M) integers for the encoder, and where they are padding; None without an encoder.
    plans
        Replay these decisions, one plan per Switch layer, the encoder's first.
    noise, rng
        Noise to replay, or where it comes from: in training, and outside it where the Switch
        layers' conventions draw random numbers there too.
    training
        Switches dropout and router noise on, and chooses the capacity factor.

    Examples
    --------
    >>> config = ModelConfig(num_layers=2, num_encoder_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> ids, source = np.array([[72, 105]]), np.array([[1, 2, 3]])
    >>> logits, switched, cache = forward(params, ids, config, source=source)
    >>> logits.shape, len(switched)
    ((1, 2, 256), 2)
    """
    _check(params, ids, config, padding, plans)
    check_source(source, source_padding, len(ids), config)
    if noise is None:
        noisy = _noisy(config, config.stacks.values(), rng, training, replayed=plans is not None)
        noise = ModelNoise(None) if noisy is None else draw_noise(
            rng, noisy, ids.shape, _dtype(params), None if source is None else source.shape)
    plans = list(plans or ())
    memory, switched, runs = None, [], {}
    if source is not None:
        memory, switched, runs["encoder"] = _run(
            params, "encoder", source, config, padding_BS=source_padding, training=training,
            noise=noise.encoder, plans=plans[:len(config.encoder.switch_layers)])
    y_BSD, more, runs["decoder"] = _run(
        params, "decoder", ids, config, padding_BS=padding, memory=memory,
        memory_padding=source_padding, noise=noise.decoder, plans=plans[len(switched):],
        training=training)
    logits_BSV, y_TD = _head(params, y_BSD)
    return logits_BSV, switched + more, ModelCache(params, y_TD, runs)


def encode(params: Mapping[str, Any], source: np.ndarray, config: ModelConfig,
           source_padding: np.ndarray | None = None, *,
           rng: np.random.Generator | None = None) -> np.ndarray:
    """Return the encoder's output (B, M, D), as outside training: the memory of `decode`.

    `rng` is needed where the Switch layers' conventions draw random numbers there too.

    >>> config = ModelConfig(num_layers=2, num_encoder_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> encode(params, np.array([[1, 2, 3]]), config).shape
    (1, 3, 32)
    """
    check_params(params, config)
    check_source(source, source_padding, len(source), config)
    return _run(params, "encoder", source, config, padding_BS=source_padding,
                noise=_stack_noise(params, source, config, config.encoder, rng))[0]


def decode(params: Mapping[str, Any], ids: np.ndarray, config: ModelConfig, *,
           memory: np.ndarray | None = None, memory_padding: np.ndarray | None = None,
           past: StackCache | None = None,
           rng: np.random.Generator | None = None) -> tuple[np.ndarray, StackCache]:
    """Return the logits (B, S, V) after the ids (B, S), and what the next call takes as `past`.

    With `past` the ids follow those that it stands for. As outside training (`rng` as in `encode`),
    and with the config's own capacity; `generate` says why it should have none.

    >>> config = ModelConfig(num_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> _, past = decode(params, np.array([[72, 105]]), config)
    >>> decode(params, np.array([[33]]), config, past=past)[0].shape
    (1, 1, 256)
    """
    if past is None:
        _check(params, ids, config, None, None)
        check_memory(memory, memory_padding, len(ids), config, params["embedding"]["table"])
    else:                             # of a call that checked the rest
        check_ids("ids", ids, None, config)
    y_BSD, _, run = _run(params, "decoder", ids, config, memory=memory,
                         memory_padding=memory_padding, past=past,
                         noise=_stack_noise(params, ids, config, config.decoder, rng))
    return _head(params, y_BSD)[0], run.stack


def backward(d_logits: np.ndarray, cache: ModelCache, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0) -> dict[str, Any]:
    """Return the gradients, with the structure of the parameters.

    Parameters
    ----------
    d_logits
        (B, S, V).
    cache
        From `forward`.
    d_balance_loss, d_z_loss
        What arrives at each of the router's losses: its coefficient.
    """
    check.instance("cache", cache, ModelCache)
    params, y_TD, runs = cache
    vocab = len(params["embedding"]["table"])
    check.floats("d_logits", d_logits, (*runs["decoder"].ids_BS.shape, vocab), like=y_TD)
    grads: dict[str, Any] = {}
    d_logits_TV = rounded.cast(d_logits.reshape(len(y_TD), -1), like=y_TD)
    d_y_TD, d_table_VD, head = _head_backward(d_logits_TV, params, y_TD)
    grads |= head
    d_more_VD, grads["decoder"], d_memory = _run_backward(
        d_y_TD.reshape(*runs["decoder"].ids_BS.shape, -1), runs["decoder"], d_balance_loss,
        d_z_loss, len(d_table_VD))
    d_table_VD += d_more_VD
    if "encoder" in runs:
        d_more_VD, grads["encoder"], _ = _run_backward(
            d_memory, runs["encoder"], d_balance_loss, d_z_loss, len(d_table_VD))
        if "encoder_embedding" in params:
            grads["encoder_embedding"] = {"table": d_more_VD}
        else:
            d_table_VD += d_more_VD
    grads["embedding"] = {"table": d_table_VD}
    return {name: grads[name] for name in params}


def loss_and_grads(params: Mapping[str, Any], batch: Batch, config: ModelConfig, *,
                   plans: Sequence[Plan] | None = None, noise: ModelNoise | None = None,
                   rng: np.random.Generator | None = None,
                   training: bool = False) -> tuple[Loss, dict[str, Any]]:
    """Return the loss with its parts and plans, and the gradient of its total.

    The arguments after `config` are those of `forward`.

    Examples
    --------
    >>> config = ModelConfig(num_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> batch = Batch(inputs=np.array([[72, 105]]), targets=np.array([[105, 33]]))
    >>> found, grads = loss_and_grads(params, batch, config)
    >>> grads["decoder"]["1"]["switch"]["w_in"].shape
    (16, 32, 64)
    """
    found, cross_entropy_cache, cache = _loss(params, batch, config, plans, noise, rng, training)
    d_logits_TV = cross_entropy.backward(1.0, cross_entropy_cache)
    d_logits_BSV = d_logits_TV.reshape(*batch.inputs.shape, -1)
    return found, backward(d_logits_BSV, cache, config.balance_coef, config.z_coef)


def loss(params: Mapping[str, Any], batch: Batch, config: ModelConfig, *,
         plans: Sequence[Plan] | None = None, noise: ModelNoise | None = None,
         rng: np.random.Generator | None = None, training: bool = False) -> Loss:
    """Return the loss alone; the arguments are those of `loss_and_grads`."""
    return _loss(params, batch, config, plans, noise, rng, training)[0]


def _loss(params: Mapping[str, Any], batch: Batch, config: ModelConfig,
          plans: Sequence[Plan] | None, noise: ModelNoise | None,
          rng: np.random.Generator | None, training: bool
          ) -> tuple[Loss, cross_entropy.CrossEntropyCache, ModelCache]:
    targets_T = targets_that_count(batch, config)
    logits, switched, cache = forward(
        params, batch.inputs, config, padding=batch.padding, source=batch.source,
        source_padding=batch.source_padding, plans=plans, noise=noise, rng=rng, training=training)
    nats, cross_entropy_cache = cross_entropy.forward(       # in float32, in halves too
        rounded.plain(logits).reshape(len(targets_T), -1), targets_T)
    balance = tuple(loss for run in cache.runs.values() for loss in run.losses.balance)
    z = tuple(loss for run in cache.runs.values() for loss in run.losses.z)
    total = nats + sum(balance) * config.balance_coef + sum(z) * config.z_coef
    total = total.astype(nats.dtype)         # NumPy 1.26 lifts a scalar times a float
    found = Loss(total, nats, balance, z, tuple(out.plan for out in switched))
    return found, cross_entropy_cache, cache


def _run(params: Mapping[str, Any], name: str, ids_BS: np.ndarray, config: ModelConfig, *,
         padding_BS: np.ndarray | None = None,
         **options: Any) -> tuple[np.ndarray, list[LayerOutput], StackRun]:
    """Send ids through the stack of this name; `options` are those of `stack.forward`."""
    table = params.get(f"{name}_embedding", params["embedding"])["table"]
    kind = config.stacks[name]
    y_BSD, switched, cache = stack.forward(
        params[name], embedding.forward(table, ids_BS), config, kind, padding_BS=padding_BS,
        **options)
    losses = router_losses.forward(
        switched, config, kind, None if padding_BS is None else padding_BS.ravel())
    return y_BSD, switched, StackRun(ids_BS, cache, losses)


def _run_backward(d_y_BSD: np.ndarray, run: StackRun, d_balance_loss: float, d_z_loss: float,
                  vocab_size: int) -> tuple[np.ndarray, dict[str, Any], np.ndarray | int]:
    """Return d_table (V, D), the gradients of the stack, and d_memory."""
    arriving = router_losses.backward(d_balance_loss, d_z_loss, run.losses)
    d_x_BSD, grads, d_memory = stack.backward(d_y_BSD, run.stack, *arriving)
    return embedding.backward(d_x_BSD, run.ids_BS, vocab_size), grads, d_memory


def _head(params: Mapping[str, Any], y_BSD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits (B, S, V), and what they are made of (T, D)."""
    b, s, d = y_BSD.shape
    y_TD = y_BSD.reshape(b * s, d)
    if "head" in params:
        weight_DV = params["head"]["w_head"]
    else:
        y_TD, weight_DV = y_TD * d ** -0.5, params["embedding"]["table"].T
    width = weight_DV.shape[1]
    logits = threads.each(lambda part: y_TD[part] @ weight_DV, threads.cut(0, b * s, width),
                          size=b * s * width)
    return parts.join(logits).reshape(b, s, -1), y_TD


def _head_backward(d_logits_TV: np.ndarray, params: Mapping[str, Any], y_TD: np.ndarray
                   ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return d_y (T, D), the table's gradient as head (V, D), and that of a head of its own."""
    table_VD = params["embedding"]["table"]
    if "head" in params:
        d_y_TD = d_logits_TV @ params["head"]["w_head"].T
        return (d_y_TD, np.zeros(table_VD.shape, d_y_TD.dtype),
                {"head": {"w_head": y_TD.T @ d_logits_TV}})
    d_y_TD, (d_table_VD, grads) = threads.each(lambda product: product(), [
        lambda: d_logits_TV @ table_VD * y_TD.shape[1] ** -0.5,
        lambda: (d_logits_TV.T @ y_TD, {})], size=d_logits_TV.size)
    return d_y_TD, d_table_VD, grads


def _check(params: Mapping[str, Any], ids: np.ndarray, config: ModelConfig,
           padding: np.ndarray | None, plans: Sequence[Plan] | None) -> None:
    """Refuse arguments that do not fit the config."""
    check.instance("config", config, ModelConfig)
    check_ids("ids", ids, padding, config)
    if plans is not None and len(plans) != len(config.switch_names):
        raise ValueError(f"plans must be {len(config.switch_names)}, one per Switch layer, "
                         f"got {len(plans)}")
    check_params(params, config)


def _stack_noise(params: Mapping[str, Any], ids_BS: np.ndarray, config: ModelConfig,
                 kind: StackConfig, rng: np.random.Generator | None) -> StackNoise | None:
    """Return what one stack draws outside training."""
    noisy = _noisy(config, [kind], rng, training=False, replayed=False)
    return noisy and stack.draw_noise(rng, noisy, kind, *ids_BS.shape, _dtype(params))


def _noisy(config: ModelConfig, kinds: Iterable[StackConfig], rng: np.random.Generator | None,
           training: bool, replayed: bool) -> ModelConfig | None:
    """Return the config whose noise these stacks draw from rng; None if they draw none."""
    if not training:
        if not config.switch.foreign:
            return None
        config = _outside_training(config, replayed)
    switched = any(kind.switch_layers for kind in kinds)
    if not (config.dropout or (switched and config.switch.noisy)):
        return None
    if rng is None:
        where = ("when training=True and the config has noise" if training else
                 "since config.switch has conventions that draw random numbers in every call")
        raise ValueError(f"rng must be a Generator (or noise= be given) {where}, got None")
    check.instance("rng", rng, np.random.Generator)
    return config


@remembered
def _outside_training(config: ModelConfig, replayed: bool) -> ModelConfig:
    """Return the config whose noise in training is that of this one outside it.

    What is left is noise_when="always", and the random numbers that choices hang on, unless these
    are replayed: as in a single layer.
    """
    quiet: dict[str, Any] = {"sample": False, "expert_dropout": 0.0}
    rules = config.switch.conventions
    if rules.noise_when == "training":
        quiet |= {"jitter": 0.0, "router_dropout": 0.0}
        rules = replace(rules, logit_noise="none")
    if replayed:
        rules = replace(rules, second_choice="largest", second_policy="all", priority="choice")
    return replace(config, dropout=0.0, switch=replace(config.switch, conventions=rules, **quiet))


def _dtype(params: Mapping[str, Any]) -> np.dtype:
    return params["embedding"]["table"].real.dtype
