"""The model over ranks beside one process: problems, and what each rank does."""

from dataclasses import replace

import numpy as np
from support import lively
from training.small_run import CORPUS, MODEL, TRAIN

import switch_np as snp
from switch_np.parallel import model, shards, trainer
from switch_np.parallel.mesh import lay_out
from switch_np.switch.config import SwitchConfig
from switch_np.training import trainer as alone
from switch_np.training.adafactor import Adafactor
from switch_np.training.optimizer import AdamW

SWITCH = SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.8, groups=4, expert_dropout=0.2,
                      jitter=0.1)
LM = replace(MODEL, switch=SWITCH, z_coef=0.01, switch_every=1)
BIASED = replace(LM, switch=replace(SWITCH, conventions=snp.Conventions(
    expert_biases=True, expert_gated=True, expert_activation="silu")))
CONFIGS = {"decoder alone": LM,
           "encoder, untied": replace(LM, num_encoder_layers=2, tie_embeddings="none"),
           "encoder, tied": replace(LM, num_encoder_layers=2, tie_embeddings="all",
                                    switch=replace(SWITCH, router_bias=True, layout="buffers"))}
SMALL = replace(TRAIN, dtype="float64", batch_size=4, steps=8, max_norm=0.3,
                optimizer=AdamW(epsilon=1e-3))
OTHER = replace(SMALL, optimizer=Adafactor(beta_1=0.5, weight_decay=0.1))


def problem(config, seed=0):
    """Return parameters, and a batch of 8 sequences with padding; the first two hardly count."""
    rng = np.random.default_rng(seed)
    params = lively(rng, snp.model.init(rng, config), 0.1)
    ids, targets = rng.integers(0, 256, (2, 8, 6))
    padding = rng.random((8, 6)) < 0.2
    padding[:2, 1:] = True
    padding[:, 0] = False
    targets[rng.random((8, 6)) < 0.2] = -100
    if not config.encoder:
        return params, snp.Batch(ids, targets, padding)
    source_padding = rng.random((8, 4)) < 0.3
    return params, snp.Batch(ids, targets, padding, rng.integers(0, 256, (8, 4)), source_padding)


def one_step(world, config, params, batch, shape):
    """Return the loss and, whole, the gradients of a rank."""
    mesh = lay_out(world, *shape)
    found, grads = model.loss_and_grads(shards.cut(params, mesh), batch, config, mesh,
                                        rng=np.random.default_rng(5), training=True)
    return [*found[:2], *found.balance, *found.z], shards.join(grads, mesh)


def steps(world, shape, train=SMALL, config=LM, count=3, run=None):
    """Return a rank's losses and norms over some steps, the whole run then, and a held-out loss."""
    mesh = lay_out(world, *shape)
    run = trainer.cut(alone.start(config, train, CORPUS) if run is None else run, mesh)
    seen = [trainer.advance(run, CORPUS, mesh) for _ in range(count)]
    return ([(float(loss.total), norm, [plan.dropped_fraction for plan in loss.plans])
             for loss, norm in seen],
            trainer.whole(run, mesh), trainer.evaluate(run, CORPUS.held_out, mesh, rows_at_once=8))
