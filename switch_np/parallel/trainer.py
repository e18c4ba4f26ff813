"""Training over a mesh of ranks: each steps on its own part of the parameters and moments.

All ranks draw the same batches and noise, and clip by the norm of all gradients, so a run goes on
as one process with as many groups would. `whole` is that process's run: what is saved is the same
file, and another number of ranks, or one process, can go on from it.
"""

import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from switch_np.model import Loss
from switch_np.parallel import all_reduce, model, shards
from switch_np.parallel.mesh import Mesh
from switch_np.training import adafactor, trainer
from switch_np.training.trainer import Means, Run


def cut(run: Run, mesh: Mesh) -> Run:
    """Return this rank's part of a whole run; refuse a run that the mesh cannot share out."""
    mesh.check(run.model_config.switch)
    if run.config.batch_size % mesh.data.size:
        raise ValueError(f"batch_size must be a multiple of the {mesh.data.size} ranks that share "
                         f"the batch, got {run.config.batch_size}")
    if mesh.model.size > 1 and isinstance(run.config.optimizer, adafactor.Adafactor):
        raise ValueError(f"optimizer must be AdamW where {mesh.model.size} ranks share d_ff, got "
                         "Adafactor, whose moments are means over it")
    if run.model_config.switch.conventions.expert_biases and mesh.world.size > 1 and isinstance(
            run.config.optimizer, adafactor.Adafactor):
        raise ValueError("optimizer must be AdamW where ranks share experts with biases, got "
                         "Adafactor, whose moments are means over the experts")
    return replace(run, params=shards.cut(run.params, mesh), moments=shards.cut(run.moments, mesh),
                   text_rng=copy.deepcopy(run.text_rng), noise_rng=copy.deepcopy(run.noise_rng))


def whole(run: Run, mesh: Mesh) -> Run:
    """Return the run of one process, on every rank; all must call it."""
    return replace(run, params=shards.join(run.params, mesh),
                   moments=shards.join(run.moments, mesh))


class Load(NamedTuple):
    """What a layer's plans on all ranks add up to: choices by expert (1, E), and those kept.

    `slots` counts those of one rank's buffers, E C.
    """

    load: np.ndarray
    kept: int
    slots: int

    @property
    def dropped_fraction(self) -> float:
        """The share of the real tokens' choices that were dropped; 0 without any."""
        return float(1 - self.kept / self.load.sum()) if self.load.any() else 0.0


def advance(run: Run, corpus: Any, mesh: Mesh) -> tuple[Loss, float]:
    """Take one step as `trainer.advance` does; the loss's `plans` are the `Load` of each layer.

    >>> from switch_np.parallel import simulated
    >>> from switch_np.parallel.mesh import lay_out
    >>> from switch_np.training import corpus, train_config
    >>> from switch_np.transformer.model_config import ModelConfig
    >>> text = corpus.Corpus(*np.frombuffer(b"to be or not to be " * 40, np.uint8).reshape(2, -1))
    >>> run = trainer.start(ModelConfig(num_layers=2), train_config.TrainConfig(seq_len=16), text)
    >>> def work(world):
    ...     mesh = lay_out(world, data=2)
    ...     part = cut(run, mesh)
    ...     return [float(advance(part, text, mesh)[0].total) for _ in range(3)]
    >>> one, other = simulated.run(2, work)
    >>> one == other, one[-1] < one[0]
    (True, True)
    """
    means = Means(partial(shards.square_sum, mesh=mesh), partial(shards.rms, mesh=mesh))
    loss, norm = trainer.advance(run, corpus, partial(model.loss_and_grads, mesh=mesh), means)
    return loss._replace(plans=_loads(loss, mesh)), norm


def _loads(loss: Loss, mesh: Mesh) -> tuple[Any, ...]:
    if not loss.plans:
        return ()
    counts = np.stack([np.append(plan.load.sum(axis=0), len(plan.token)) for plan in loss.plans])
    counts = all_reduce.forward(counts, mesh.data, "loads")
    return tuple(Load(each[None, :-1], int(each[-1]), plan.load.size * plan.capacity)
                 for each, plan in zip(counts, loss.plans))


def evaluate(run: Run, data: Any, mesh: Mesh, rows_at_once: int = 32) -> float:
    """Return the loss on all held-out data as `trainer.evaluate` does; all ranks must call it."""
    return trainer.evaluate(run, data, rows_at_once, lambda params, batch, config, rng: model.loss(
        params, batch, config, mesh, rng=rng)[0])
