"""The model: embedding, a stack of blocks, and the embedding once more as output head.

Source: section 2 of the Switch paper on T5 (Raffel et al., JMLR 21, 2020), decoder only.

Forward:   x = table[ids];  y = stack(x);  logits = (y / √D) tableᵀ;
           loss = cross-entropy + α Σ balance losses + c Σ z-losses, over the Switch layers
Backward:  d_y = d_logits table / √D;  the table gets two gradients, as head (d_logitsᵀ y / √D) and
           as embedding, and their sum is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check, rounded
from switch_np.switch.layer import LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import cross_entropy, embedding, stack
from switch_np.transformer.batch import Batch, targets_that_count
from switch_np.transformer.config import ModelConfig
from switch_np.transformer.parameters import check_params, init
from switch_np.transformer.stack import StackNoise

__all__ = ["Batch", "Loss", "backward", "draw_noise", "forward", "init", "loss", "loss_and_grads"]


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
    d_logits_TV = rounded.cast(d_logits.reshape(len(y_TD), -1), like=table_VD)
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
    (16, 32, 64)
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
    targets_T = targets_that_count(batch, config)
    logits, switched, cache = forward(params, batch.inputs, config, padding=batch.padding,
                                      plans=plans, noise=noise, rng=rng, training=training)
    nats, cross_entropy_cache = cross_entropy.forward(       # in float32, in halves too
        rounded.plain(logits).reshape(len(targets_T), -1), targets_T)
    balance = tuple(out.balance_loss for out in switched)
    z = tuple(out.z_loss for out in switched)
    total = nats + sum(balance) * config.balance_coef + sum(z) * config.z_coef
    total = total.astype(nats.dtype)         # NumPy 1.26 lifts a scalar times a float
    found = Loss(total, nats, balance, z, tuple(out.plan for out in switched))
    return found, cross_entropy_cache, cache


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
