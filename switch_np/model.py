"""The model as it is called: it checks arguments and draws noise; `transformer.model` computes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check, signatures
from switch_np.switch.layer import LayerOutput
from switch_np.switch.plan import Plan
from switch_np.transformer import head, model, model_noise, model_parameters
from switch_np.transformer.batch import Batch
from switch_np.transformer.checks import (
    check_batch, check_for_encoder, check_ids, check_memory, check_params, check_plans,
    check_source)
from switch_np.transformer.model import Loss, ModelCache
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.model_noise import ModelNoise
from switch_np.transformer.stack import StackCache

__all__ = ["Batch", "Loss", "backward", "decode", "draw_noise", "encode", "forward", "init", "loss",
           "loss_and_grads"]


def init(rng: np.random.Generator, config: ModelConfig,
         dtype: DTypeLike = np.float64) -> dict[str, Any]:
    """Draw the parameters, a nested dict such as params["decoder"]["1"]["switch"]["w_in"].

    Weights are truncated normal with standard deviation √(init_scale / fan-in). The queries' fan-in
    includes the width of a head, since T5 does not divide the scores by its root; the embedding's
    is 1. Norms start at 1.

    >>> params = init(np.random.default_rng(0), ModelConfig(num_layers=2, num_encoder_layers=2))
    >>> list(params), list(params["encoder"]["1"])
    (['embedding', 'encoder', 'decoder'], ['attention_norm', 'attention', 'feed_forward_norm', \
'switch'])
    """
    check.instance("rng", rng, np.random.Generator)
    check.instance("config", config, ModelConfig)
    return model_parameters.draw(rng, config, dtype)


@signatures.checked
def draw_noise(rng: np.random.Generator, config: ModelConfig, batch_shape: tuple[int, int],
               dtype: DTypeLike = np.float64,
               source_shape: tuple[int, int] | None = None) -> ModelNoise:
    """Draw the noise of one training step, to be passed as `noise=` and replayed at will.

    `batch_shape` (B, S) is that of the decoder's ids, `source_shape` (B, M) of the encoder's, None
    without one; `dtype` is that of the parameters.

    >>> config = ModelConfig(num_layers=2, dropout=0.1)
    >>> noise = draw_noise(np.random.default_rng(0), config, (3, 5))
    >>> noise.decoder.first.shape, noise.decoder.blocks[1].switch.jitter.shape
    ((3, 5, 32), (15, 32))
    """
    check.precision("dtype", dtype)
    check_for_encoder("source_shape", source_shape, "(B, M)", config)
    return model_noise.draw(rng, config, _by_stack(batch_shape, source_shape), dtype)


@signatures.checked
def forward(params: Mapping[str, Any], ids: np.ndarray, config: ModelConfig, *,
            padding: np.ndarray | None = None, source: np.ndarray | None = None,
            source_padding: np.ndarray | None = None, plans: Sequence[Plan] | None = None,
            noise: ModelNoise | None = None, rng: np.random.Generator | None = None,
            training: bool = False) -> tuple[np.ndarray, list[LayerOutput], ModelCache]:
    """Return the logits (B, S, V) of the token that follows each, and each Switch layer's output.

    Parameters
    ----------
    ids, padding
        (B, S) integers for the decoder; (B, S) bool, True where an id is padding.
    source, source_padding
        (B, M) integers for the encoder, and where they are padding; None without an encoder.
    plans
        Decisions to replay, one plan per Switch layer, the encoder's first.
    noise, rng
        Noise to replay, or the generator to draw it from: needed in training, and outside it where
        the Switch layers' conventions draw random numbers there too.
    training
        Switches dropout and router noise on, and selects the capacity factor.

    Examples
    --------
    >>> config = ModelConfig(num_layers=2, num_encoder_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> ids, source = np.array([[72, 105]]), np.array([[1, 2, 3]])
    >>> logits, switched, cache = forward(params, ids, config, source=source)
    >>> logits.shape, len(switched)
    ((1, 2, 256), 2)
    """
    batch = Batch(ids, ids, padding, source, source_padding)           # its targets are not read
    noise = _checked(params, batch, config, plans, noise, rng, training)
    return model.forward(params, batch, config, noise, plans or (), training)


@signatures.checked
def encode(params: Mapping[str, Any], source: np.ndarray, config: ModelConfig,
           source_padding: np.ndarray | None = None, *, rng: np.random.Generator | None = None
           ) -> np.ndarray:
    """Return the encoder's output (B, M, D) outside training: the memory of `decode`.

    `rng` is needed where the Switch layers' conventions draw random numbers outside training.

    >>> config = ModelConfig(num_layers=2, num_encoder_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> encode(params, np.array([[1, 2, 3]]), config).shape
    (1, 3, 32)
    """
    check_params(params, config)
    check_source(source, source_padding, len(source), config)
    noise = model_noise.noise_for(None, config, {"encoder": source.shape}, _dtype(params), rng)
    return model.run_stack(params, "encoder", source, config, padding_BS=source_padding,
                           noise=noise.encoder)[0]


@signatures.checked
def decode(params: Mapping[str, Any], ids: np.ndarray, config: ModelConfig, *,
           memory: np.ndarray | None = None, memory_padding: np.ndarray | None = None,
           past: StackCache | None = None,
           rng: np.random.Generator | None = None) -> tuple[np.ndarray, StackCache]:
    """Return the logits (B, S, V) after the ids (B, S), and the `past` of the next call.

    With `past`, the ids follow those of the calls before. Nothing is trained (`rng` as in
    `encode`). The capacity is the config's own; `generate` says why it should have none.

    >>> config = ModelConfig(num_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> _, past = decode(params, np.array([[72, 105]]), config)
    >>> decode(params, np.array([[33]]), config, past=past)[0].shape
    (1, 1, 256)
    """
    check_ids("ids", ids, None, config)
    if past is None:                  # the call that made one checked the rest
        check_params(params, config)
        check_memory(memory, memory_padding, len(ids), config, params["embedding"]["table"])
    noise = model_noise.noise_for(None, config, {"decoder": ids.shape}, _dtype(params), rng)
    y_BSD, _, run = model.run_stack(params, "decoder", ids, config, memory=memory, past=past,
                                    memory_padding=memory_padding, noise=noise.decoder)
    return head.forward(params, y_BSD)[0], run.stack


def backward(d_logits: np.ndarray, cache: ModelCache, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0) -> dict[str, Any]:
    """Return the gradients, with the structure of the parameters.

    Takes d_logits (B, S, V), the cache of `forward`, and the coefficients of the router's losses.
    """
    check.instance("cache", cache, ModelCache)
    shape = (*cache.runs["decoder"].ids_BS.shape, len(cache.params["embedding"]["table"]))
    like = cache.head.y_TD
    check.floats("d_logits", d_logits, shape, like=like, kinds=like.dtype.kind)
    return model.backward(d_logits, cache, d_balance_loss, d_z_loss)


@signatures.checked
def loss_and_grads(params: Mapping[str, Any], batch: Batch, config: ModelConfig, *,
                   plans: Sequence[Plan] | None = None, noise: ModelNoise | None = None,
                   rng: np.random.Generator | None = None,
                   training: bool = False) -> tuple[Loss, dict[str, Any]]:
    """Return the loss with its terms and plans, and the gradient of its total.

    The arguments after `config` are those of `forward`.

    >>> config = ModelConfig(num_layers=2)
    >>> params = init(np.random.default_rng(0), config)
    >>> batch = Batch(inputs=np.array([[72, 105]]), targets=np.array([[105, 33]]))
    >>> found, grads = loss_and_grads(params, batch, config)
    >>> grads["decoder"]["1"]["switch"]["w_in"].shape
    (16, 32, 64)
    """
    check_batch(batch, config)
    noise = _checked(params, batch, config, plans, noise, rng, training)
    found, cache = model.loss(params, batch, config, noise, plans or (), training)
    return found, model.loss_backward(cache, config)


@signatures.checked
def loss(params: Mapping[str, Any], batch: Batch, config: ModelConfig, *,
         plans: Sequence[Plan] | None = None, noise: ModelNoise | None = None,
         rng: np.random.Generator | None = None, training: bool = False) -> Loss:
    """Return the loss alone; the arguments are those of `loss_and_grads`."""
    check_batch(batch, config)
    noise = _checked(params, batch, config, plans, noise, rng, training)
    return model.loss(params, batch, config, noise, plans or (), training)[0]


def _checked(params: Mapping[str, Any], batch: Batch, config: ModelConfig,
             plans: Sequence[Plan] | None, noise: ModelNoise | None,
             rng: np.random.Generator | None, training: bool) -> ModelNoise:
    """Return the noise of a call after checking all arguments but the targets."""
    check.instance("config", config, ModelConfig)
    check_ids("ids", batch.inputs, batch.padding, config)
    check_plans(plans, config)
    check_params(params, config)
    check_source(batch.source, batch.source_padding, len(batch.inputs), config)
    shapes = _by_stack(batch.inputs.shape, None if batch.source is None else batch.source.shape)
    return model_noise.noise_for(noise, config, shapes, _dtype(params), rng, plans is not None,
                                 training)


def _by_stack(batch_shape: tuple[int, ...],
              source_shape: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    return {"decoder": batch_shape} | ({} if source_shape is None else {"encoder": source_shape})


def _dtype(params: Mapping[str, Any]) -> DTypeLike:
    table: np.ndarray = params["embedding"]["table"]
    return table.real.dtype
