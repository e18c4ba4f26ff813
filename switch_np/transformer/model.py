"""The model: embedding, one stack of blocks or two, the output head, and the loss.

Source: section 2 of the Switch paper on T5 (Raffel et al., JMLR 21, 2020): encoder-decoder, or the
decoder alone.

Forward:   memory = encoder(table[source]);  y = decoder(table[ids], memory);  logits = head(y);
           loss = cross-entropy + α Σ balance losses + c Σ z-losses
Backward:  the head gives d_y, the decoder d_memory, which the encoder takes. The gradient of a tied
           table is the sum of up to three: the head's, and each stack's embedding's.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np import switch_layer
from switch_np.operations import rounded
from switch_np.switch.layer import LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import block, cross_entropy, embedding, head, router_losses, stack
from switch_np.transformer.batch import Batch, targets_that_count
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.model_noise import ModelNoise


class Loss(NamedTuple):
    """The objective and its terms, scalars in nats per token.

    Attributes
    ----------
    total, cross_entropy
        What is differentiated: cross_entropy, the mean over the targets that count,
        + balance_coef * sum(balance) + z_coef * sum(z).
    balance, z
        Balance losses and z-losses without coefficients, in the order of `router_losses.names`.
    plans
        The plan of each Switch layer, in the order of `config.switch_names`.
    """

    total: np.ndarray
    cross_entropy: np.ndarray
    balance: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    plans: tuple[Plan, ...]


class Parts(NamedTuple):
    """What computes the Switch layers and the cross-entropy: of one process, or over many ranks."""

    layer: block.SwitchLayer = switch_layer.forward
    cross_entropy: Any = cross_entropy


class StackRun(NamedTuple):
    """Saved for backward, of one stack: ids, cache and router losses."""

    ids_BS: np.ndarray
    stack: stack.StackCache
    losses: router_losses.RouterLosses


class ModelCache(NamedTuple):
    """Saved for backward: the parameters by reference, the stacks by name, the head's cache."""

    params: Mapping[str, Any]
    runs: dict[str, StackRun]
    head: head.HeadCache


class LossCache(NamedTuple):
    """Saved for backward: the caches of model and cross-entropy, and what computes the latter."""

    model: ModelCache
    cross_entropy: Any
    parts: Parts


def forward(params: Mapping[str, Any], batch: Batch, config: ModelConfig,
            noise: ModelNoise = ModelNoise(), plans: Iterable[Plan] = (), training: bool = False,
            layer: block.SwitchLayer = switch_layer.forward
            ) -> tuple[np.ndarray, list[LayerOutput], ModelCache]:
    """Return the logits (B, S, V), and each Switch layer's output, the encoder's first."""
    memory_BMD, runs = None, {}
    switched: list[LayerOutput] = []
    both: dict[str, Any] = {"plans": iter(plans), "training": training, "layer": layer}
    if batch.source is not None:
        memory_BMD, switched, runs["encoder"] = run_stack(
            params, "encoder", batch.source, config, padding_BS=batch.source_padding,
            noise=noise.encoder, **both)
    y_BSD, more, runs["decoder"] = run_stack(
        params, "decoder", batch.inputs, config, padding_BS=batch.padding, memory=memory_BMD,
        memory_padding=batch.source_padding, noise=noise.decoder, **both)
    logits_BSV, head_cache = head.forward(params, y_BSD)
    return logits_BSV, switched + more, ModelCache(params, runs, head_cache)


def backward(d_logits_BSV: np.ndarray, cache: ModelCache, d_balance: float = 0.0,
             d_z: float = 0.0) -> dict[str, Any]:
    """Return the gradients, with the structure of the parameters."""
    params, runs, head_cache = cache
    d_y_BSD, d_table_VD, grads = head.backward(d_logits_BSV, head_cache)
    d_more_VD, grads["decoder"], d_memory_BMD = run_stack_backward(
        d_y_BSD, runs["decoder"], d_balance, d_z, len(d_table_VD))
    d_table_VD += d_more_VD
    if "encoder" in runs:
        d_more_VD, grads["encoder"], _ = run_stack_backward(
            d_memory_BMD, runs["encoder"], d_balance, d_z, len(d_table_VD))
        if "encoder_embedding" in params:
            grads["encoder_embedding"] = {"table": d_more_VD}
        else:
            d_table_VD += d_more_VD
    grads["embedding"] = {"table": d_table_VD}
    return {name: grads[name] for name in params}


def loss(params: Mapping[str, Any], batch: Batch, config: ModelConfig,
         noise: ModelNoise = ModelNoise(), plans: Iterable[Plan] = (),
         training: bool = False, parts: Parts = Parts()) -> tuple[Loss, LossCache]:
    """Return the objective and its terms."""
    logits_BSV, switched, cache = forward(params, batch, config, noise, plans, training,
                                          parts.layer)
    targets_T = targets_that_count(batch)
    logits_TV = rounded.plain(logits_BSV).reshape(len(targets_T), -1)     # float32 in halves too
    nats, cross_entropy_cache = parts.cross_entropy.forward(logits_TV, targets_T)
    balance = tuple(loss for run in cache.runs.values() for loss in run.losses.balance)
    z = tuple(loss for run in cache.runs.values() for loss in run.losses.z)
    total = nats + sum(balance) * config.balance_coef + sum(z) * config.z_coef
    total = total.astype(nats.dtype)         # NumPy 1.26 lifts a scalar times a float
    plans = tuple(out.plan for out in switched)
    return Loss(total, nats, balance, z, plans), LossCache(cache, cross_entropy_cache, parts)


def loss_backward(cache: LossCache, config: ModelConfig) -> dict[str, Any]:
    """Return the gradients of the total."""
    d_logits_TV = cache.parts.cross_entropy.backward(1.0, cache.cross_entropy)
    d_logits_BSV = d_logits_TV.reshape(*cache.model.runs["decoder"].ids_BS.shape, -1)
    return backward(d_logits_BSV, cache.model, config.balance_coef, config.z_coef)


def run_stack(params: Mapping[str, Any], name: str, ids_BS: np.ndarray, config: ModelConfig,
              padding_BS: np.ndarray | None = None, **options: Any
              ) -> tuple[np.ndarray, list[LayerOutput], StackRun]:
    """Send ids through the stack of this name; `options` are those of `stack.forward`."""
    table_VD = params.get(f"{name}_embedding", params["embedding"])["table"]
    kind, x_BSD = config.stacks[name], embedding.forward(table_VD, ids_BS)
    y_BSD, switched, cache = stack.forward(params[name], x_BSD, config, kind,
                                           padding_BS=padding_BS, **options)
    padding_T = None if padding_BS is None else padding_BS.ravel()
    losses = router_losses.forward(switched, config, kind, padding_T)
    return y_BSD, switched, StackRun(ids_BS, cache, losses)


def run_stack_backward(d_y_BSD: np.ndarray, run: StackRun, d_balance: float, d_z: float,
                       vocab_size: int) -> tuple[np.ndarray, dict[str, Any], Any]:
    """Return d_table (V, D), the gradients of the stack, and d_memory (B, M, D) or None."""
    arriving = router_losses.backward(d_balance, d_z, run.losses)
    d_x_BSD, grads, d_memory = stack.backward(d_y_BSD, run.stack, *arriving)
    return embedding.backward(d_x_BSD, run.ids_BS, vocab_size), grads, d_memory
