"""The model: embedding, a stack of blocks, and the embedding once more as output head.

Source: section 2 of the Switch paper on T5 (Raffel et al., JMLR 21, 2020), decoder only.

Forward:   x = table[ids];  y = stack(x);  logits = (y / √D) tableᵀ;
           loss = cross-entropy + α Σ balance losses + c Σ z-losses, over the Switch layers
Backward:  d_y = d_logits table / √D;  the table gets two gradients, as head (d_logitsᵀ y / √D) and
           as embedding, and their sum is its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check, tree
from switch_np.operations.initialization import truncated_normal
from switch_np.switch import layer as switch_layer
from switch_np.switch.layer import LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import cross_entropy, embedding, stack
from switch_np.transformer.config import ModelConfig
from switch_np.transformer.stack import StackNoise


class Batch(NamedTuple):
    """Token ids, what shall follow each, and which of them are padding.

    Attributes
    ----------
    inputs
        (B, S) integers, 0 to vocab_size - 1.
    targets
        (B, S) integers, the id that follows; `cross_entropy.IGNORED` (-100) does not count.
    padding
        (B, S) bool, True where the input is padding: nobody looks at it, it takes no expert's slot
        and its target does not count. None: no padding.
    """

    inputs: np.ndarray
    targets: np.ndarray
    padding: np.ndarray | None = None


class Loss(NamedTuple):
    """The objective and its parts, scalars in nats per token.

    Attributes
    ----------
    total
        cross_entropy + balance_coef * sum(balance) + z_coef * sum(z): what is differentiated.
    cross_entropy
        Mean over the targets that count.
    balance, z
        Load-balancing loss and z-loss per Switch layer, without their coefficients.
    plans
        The plan of each Switch layer.
    """

    total: np.ndarray
    cross_entropy: np.ndarray
    balance: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    plans: tuple[Plan, ...]


class ModelCache(NamedTuple):
    """Kept: the stack's cache, its output, the ids, and the table by reference."""

    table_VD: np.ndarray
    ids_BS: np.ndarray
    y_TD: np.ndarray
    stack: stack.StackCache


def init(rng: np.random.Generator, config: ModelConfig,
         dtype: DTypeLike = np.float64) -> dict[str, Any]:
    """Draw the parameters, a nested dict such as params["decoder"]["1"]["switch"]["w_in"].

    Weights are truncated normal with standard deviation √(init_scale / fan-in); the queries' fan-in
    counts the width of a head too, since T5 does not divide the scores by its root. The embedding
    counts as fan-in 1, norms start at 1.

    Examples
    --------
    >>> params = init(np.random.default_rng(0), ModelConfig(num_layers=2))
    >>> list(params["decoder"]["1"])
    ['attention_norm', 'attention', 'feed_forward_norm', 'switch']
    """
    check.instance("rng", rng, np.random.Generator)
    check.instance("config", config, ModelConfig)
    v, d, f, scale = config.vocab_size, config.d_model, config.d_ff, config.init_scale
    heads, width = config.num_heads, config.num_heads * config.d_kv

    def draw(shape: tuple[int, ...], fan_in: int) -> np.ndarray:
        return truncated_normal(rng, shape, fan_in, scale, dtype)

    decoder: dict[str, Any] = {"position_bias": {"table": draw((config.num_buckets, heads), d)}}
    for layer in range(config.num_layers):
        decoder[str(layer)] = {
            "attention_norm": {"scale": np.ones(d, dtype)},
            "attention": {"w_q": draw((d, width), d * config.d_kv), "w_k": draw((d, width), d),
                          "w_v": draw((d, width), d), "w_o": draw((width, d), width)},
            "feed_forward_norm": {"scale": np.ones(d, dtype)}}
        if config.is_switch(layer):
            decoder[str(layer)]["switch"] = switch_layer.init(
                rng, d, f, config.switch, scale, dtype)
        else:
            decoder[str(layer)]["feed_forward"] = {
                "w_in": draw((d, f), d), "w_out": draw((f, d), f)}
    decoder["final_norm"] = {"scale": np.ones(d, dtype)}
    return {"embedding": {"table": draw((v, d), 1)},
            "decoder": decoder}


def draw_noise(rng: np.random.Generator, config: ModelConfig, batch_shape: tuple[int, int],
               dtype: DTypeLike = np.float64) -> StackNoise:
    """Draw the noise of one training step, to be handed in as `noise=` and replayed at will."""
    return stack.draw_noise(rng, config, *batch_shape, dtype)


def forward(params: Mapping[str, Any], ids: np.ndarray, config: ModelConfig, *,
            padding: np.ndarray | None = None, plans: Sequence[Plan] | None = None,
            noise: StackNoise | None = None, rng: np.random.Generator | None = None,
            training: bool = False) -> tuple[np.ndarray, list[LayerOutput], ModelCache]:
    """Return the logits (B, S, V) of the token that follows each, and each Switch layer's output.

    Parameters
    ----------
    params, config
        The model.
    ids
        (B, S) integers.
    padding
        (B, S) bool, True where an id is padding.
    plans
        Replay these decisions, one plan per Switch layer.
    noise, rng
        Noise to replay, or where it comes from in training.
    training
        Switches dropout and router noise on, and chooses the capacity factor.

    Examples
    --------
    >>> config = ModelConfig(num_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> logits, switched, cache = forward(params, np.array([[72, 105]]), config)
    >>> logits.shape, len(switched)
    ((1, 2, 256), 1)
    """
    _check(params, ids, config, padding, plans)
    table_VD = params["embedding"]["table"]
    if noise is None:
        noise = _noise(config, ids.shape, rng, training, table_VD.real.dtype)
    x_BSD = embedding.forward(table_VD, ids)
    y_BSD, switched, stack_cache = stack.forward(
        params["decoder"], x_BSD, config, padding_BS=padding, noise=noise, plans=plans,
        training=training)
    y_TD = y_BSD.reshape(-1, config.d_model) * config.d_model ** -0.5
    logits_TV = y_TD @ table_VD.T
    return (logits_TV.reshape(*ids.shape, -1), switched,
            ModelCache(table_VD, ids, y_TD, stack_cache))


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
        What arrives at the loss of every Switch layer: its coefficient.
    """
    table_VD, ids_BS, y_TD, stack_cache = cache
    d_logits_TV = d_logits.reshape(len(y_TD), -1)
    d_head_VD = d_logits_TV.T @ y_TD
    d_y_TD = d_logits_TV @ table_VD * y_TD.shape[1] ** -0.5
    d_x_BSD, decoder_grads = stack.backward(
        d_y_TD.reshape(*ids_BS.shape, -1), stack_cache, d_balance_loss, d_z_loss)
    d_table_VD = d_head_VD + embedding.backward(d_x_BSD, ids_BS, len(table_VD))
    return {"embedding": {"table": d_table_VD}, "decoder": decoder_grads}


def loss_and_grads(params: Mapping[str, Any], batch: Batch, config: ModelConfig, *,
                   plans: Sequence[Plan] | None = None, noise: StackNoise | None = None,
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
    (8, 64, 256)
    """
    found, cross_entropy_cache, cache = _loss(params, batch, config, plans, noise, rng, training)
    d_logits_TV = cross_entropy.backward(1.0, cross_entropy_cache)
    return found, backward(d_logits_TV.reshape(*cache.ids_BS.shape, -1), cache,
                           config.balance_coef, config.z_coef)


def loss(params: Mapping[str, Any], batch: Batch, config: ModelConfig, *,
         plans: Sequence[Plan] | None = None, noise: StackNoise | None = None,
         rng: np.random.Generator | None = None, training: bool = False) -> Loss:
    """Return the loss alone; the arguments are those of `loss_and_grads`."""
    return _loss(params, batch, config, plans, noise, rng, training)[0]


def _loss(params: Mapping[str, Any], batch: Batch, config: ModelConfig,
          plans: Sequence[Plan] | None, noise: StackNoise | None,
          rng: np.random.Generator | None, training: bool
          ) -> tuple[Loss, cross_entropy.CrossEntropyCache, ModelCache]:
    targets_T = _targets(batch, config)
    logits, switched, cache = forward(params, batch.inputs, config, padding=batch.padding,
                                      plans=plans, noise=noise, rng=rng, training=training)
    nats, cross_entropy_cache = cross_entropy.forward(
        logits.reshape(len(targets_T), -1), targets_T)
    balance = tuple(out.balance_loss for out in switched)
    z = tuple(out.z_loss for out in switched)
    total = nats + sum(balance) * config.balance_coef + sum(z) * config.z_coef
    found = Loss(total, nats, balance, z, tuple(out.plan for out in switched))
    return found, cross_entropy_cache, cache


def _targets(batch: Batch, config: ModelConfig) -> np.ndarray:
    """Return the targets (T,), those of padding ignored, once the batch fits."""
    check.instance("batch", batch, Batch)
    check.integers("batch.inputs", batch.inputs, ("B", "S"), 0, config.vocab_size)
    check.integers("batch.targets", batch.targets, batch.inputs.shape,
                   cross_entropy.IGNORED, config.vocab_size)
    targets = batch.targets
    bad = (targets < 0) & (targets != cross_entropy.IGNORED)
    if bad.any():
        raise ValueError(f"batch.targets must lie in 0 .. {config.vocab_size - 1} or be "
                         f"{cross_entropy.IGNORED} (ignored), got {targets[bad][0]}")
    if batch.padding is not None:
        check.booleans("batch.padding", batch.padding, batch.inputs.shape)
        targets = np.where(batch.padding, cross_entropy.IGNORED, targets)
    if (targets == cross_entropy.IGNORED).all():
        raise ValueError(f"batch must hold at least one target that counts, got none in "
                         f"targets of shape {targets.shape}")
    return targets.ravel()


def _check(params: Mapping[str, Any], ids: np.ndarray, config: ModelConfig,
           padding: np.ndarray | None, plans: Sequence[Plan] | None) -> None:
    """Refuse arguments that do not fit the config."""
    check.instance("config", config, ModelConfig)
    check.integers("ids", ids, ("B", "S"), 0, config.vocab_size)
    if ids.size == 0:
        raise ValueError(f"ids must hold at least one token, got shape {ids.shape}")
    if padding is not None:
        check.booleans("padding", padding, ids.shape)
    if plans is not None and len(plans) != len(config.switch_layers):
        raise ValueError(f"plans must be {len(config.switch_layers)}, one per Switch layer, "
                         f"got {len(plans)}")
    check_params(params, config)


def check_params(params: Mapping[str, Any], config: ModelConfig) -> None:
    """Refuse parameters of another structure, shape or precision than the config's."""
    shapes, flat = _shapes(config), tree.flatten(params)
    check.keys("params", flat, set(shapes))
    first = flat["embedding.table"]
    check.floats("params['embedding.table']", first, shapes["embedding.table"])
    for name, value in flat.items():
        check.floats(f"params[{name!r}]", value, shapes[name], like=first)


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its path name."""
    d, f, e = config.d_model, config.d_ff, config.switch.num_experts
    width = config.num_heads * config.d_kv
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.table": (config.vocab_size, d),
        "decoder.position_bias.table": (config.num_buckets, config.num_heads),
        "decoder.final_norm.scale": (d,)}
    for layer in range(config.num_layers):
        mine = {"attention_norm.scale": (d,), "feed_forward_norm.scale": (d,),
                "attention.w_q": (d, width), "attention.w_k": (d, width),
                "attention.w_v": (d, width), "attention.w_o": (width, d)}
        if config.is_switch(layer):
            mine |= {"switch.w_router": (d, e), "switch.w_in": (e, d, f), "switch.w_out": (e, f, d)}
            mine |= {"switch.b_router": (e,)} if config.switch.router_bias else {}
        else:
            mine |= {"feed_forward.w_in": (d, f), "feed_forward.w_out": (f, d)}
        shapes |= {f"decoder.{layer}.{name}": shape for name, shape in mine.items()}
    return shapes


def _noise(config: ModelConfig, shape: tuple[int, int], rng: np.random.Generator | None,
           training: bool, dtype: DTypeLike) -> StackNoise:
    """Return noise drawn in training, none elsewhere."""
    noisy = config.dropout > 0 or (config.switch_layers and config.switch.noisy)
    if not (training and noisy):
        return stack.no_noise(config)
    if rng is None:
        raise ValueError("rng must be a Generator (or noise= be given) when training=True and the "
                         "config has noise, got None")
    check.instance("rng", rng, np.random.Generator)
    return draw_noise(rng, config, shape, dtype)


def count_params(params: Mapping[str, Any]) -> int:
    """Return the number of parameters.

    >>> count_params({"a": {"b": np.zeros((2, 3))}, "c": np.zeros(4)})
    10
    """
    return sum(math.prod(value.shape) for value in tree.flatten(params).values())
