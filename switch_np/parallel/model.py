"""The model over a mesh of ranks: each computes its sequences; the experts are shared out.

Source: section 5 of the paper: data and expert parallelism. The model is `transformer.model`, with
Switch layers and a cross-entropy that talk to other ranks. Every rank gets the whole batch and
draws the whole noise, of which it takes its part: so a step is the same on any mesh.

Forward:   a rank's own sequences; its losses averaged with the others'
Backward:  each rank has the total's gradient through its own tokens; at the end the gradients of
           replicated parameters are summed over the data ranks.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np.operations import check
from switch_np.parallel import layer, losses, shards
from switch_np.parallel.mesh import Mesh
from switch_np.training import selective
from switch_np.transformer import model, model_noise
from switch_np.transformer.batch import Batch
from switch_np.transformer.checks import check_batch
from switch_np.transformer.cross_entropy import IGNORED
from switch_np.transformer.model import Loss, LossCache, Parts
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.model_noise import ModelNoise


def loss_and_grads(params: Mapping[str, Any], batch: Batch, config: ModelConfig, mesh: Mesh,
                   **options: Any) -> tuple[Loss, dict[str, Any]]:
    """Return the loss over all ranks, and the gradients of this rank's parameters.

    `params` are this rank's, from `shards.cut`; batch and config are those of one process that does
    the same. `options`: `noise` of the whole batch, or `rng` to draw it, and `training`.

    >>> from switch_np.model import init
    >>> from switch_np.parallel import simulated
    >>> from switch_np.parallel.mesh import lay_out
    >>> config, ids = ModelConfig(num_layers=2), np.array([[72, 105], [33, 10]])
    >>> params = init(np.random.default_rng(0), config)
    >>> def work(world):
    ...     mesh = lay_out(world, data=2)
    ...     return loss_and_grads(shards.cut(params, mesh), Batch(ids, ids), config, mesh)
    >>> (one, grads), (other, _) = simulated.run(2, work)
    >>> grads["decoder"]["1"]["switch"]["w_in"].shape, bool(one.total == other.total)
    ((8, 32, 64), True)
    """
    found, cache = loss(params, batch, config, mesh, **options)
    return found, shards.reduce(selective.gradients(model.loss_backward(cache, config)), mesh)


def loss(params: Mapping[str, Any], batch: Batch, config: ModelConfig, mesh: Mesh,
         noise: ModelNoise | None = None, rng: np.random.Generator | None = None,
         training: bool = False) -> tuple[Loss, LossCache]:
    """Return the loss over all ranks, and what is saved for backward.

    A batch whose sequences cannot be shared out evenly is filled up with padding.
    """
    check_batch(batch, config)
    check.choice("router_losses", config.router_losses, ["sum"])
    batch = _filled_up(batch, -len(batch.inputs) % mesh.data.size)
    shapes = {"decoder": batch.inputs.shape}
    if batch.source is not None:
        shapes["encoder"] = batch.source.shape
    noise = model_noise.noise_for(noise, config, shapes, params["embedding"]["table"].real.dtype,
                                  rng, training=training)
    batch, noise = shards.parts((batch, noise), mesh.data)
    names = iter(config.switch_names)

    def switch(params: Any, x_BSD: np.ndarray, config: Any, **options: Any) -> Any:
        return layer.forward(params, x_BSD, config, mesh, name=f"{next(names)} ", **options)

    parts = Parts(switch, losses.cross_entropy(mesh.data))
    return model.loss(params, batch, config, noise, training=training, parts=parts)


def _filled_up(batch: Batch, rows: int) -> Batch:
    """Return a batch with so many more sequences of padding."""
    if not rows:
        return batch
    if batch.padding is None:
        batch = batch._replace(padding=np.zeros(batch.inputs.shape, bool))
    if batch.source is not None and batch.source_padding is None:
        batch = batch._replace(source_padding=np.zeros(batch.source.shape, bool))
    fills = dict(inputs=0, targets=IGNORED, padding=True, source=0, source_padding=True)
    more: dict[str, Any] = {
        name: np.pad(ids, ((0, rows), (0, 0)), constant_values=fills[name])
        for name, ids in batch._asdict().items() if ids is not None}
    return batch._replace(**more)
