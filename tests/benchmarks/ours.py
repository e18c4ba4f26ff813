"""Our layer, our training step, and our generation."""

from functools import partial
from typing import Any

import numpy as np

import switch_np as snp
from benchmarks import problems
from benchmarks.problems import LayerSize, StepSize, TextSize
from benchmarks.subjects import Subject
from switch_np.generate import generate
from switch_np.operations import tree
from switch_np.training import optimizer


def layer(size: LayerSize, balance_coef: float = problems.BALANCE_COEF) -> Subject:
    """Return the layer, forward and backward."""
    config, params, x, d_y = problems.layer(size)

    def run() -> dict[str, np.ndarray]:
        out, cache = snp.switch_layer.forward(params, x, config, training=True)
        d_x, grads = snp.switch_layer.backward(d_y, cache, balance_coef)
        return {"y": out.y, "x": d_x, **grads}

    return Subject(run)


def step(size: StepSize) -> Subject:
    """Return the training step: loss, gradients, clipping, AdamW; as results, what it clips."""
    config, params, batch = problems.step(size)
    moments, rule = optimizer.init(params), optimizer.AdamW()

    def run() -> tuple[np.ndarray, dict[str, Any]]:
        loss, grads = snp.model.loss_and_grads(params, batch, config, training=True)
        clipped, _ = optimizer.clip(grads, problems.MAX_NORM)
        optimizer.step(params, clipped, moments, rule, problems.LEARNING_RATE, 100)
        return loss.total, grads

    return Subject(run, lambda found: {"loss": found[0], **tree.flatten(found[1])})


def text(size: TextSize) -> Subject:
    """Return the writing of the likeliest ids."""
    config, params, source = problems.text(size)
    begin, rng = np.zeros((size.rows, 1), int), np.random.default_rng(0)
    return Subject(lambda: generate(params, config, begin, size.length, rng, source=source,
                                    temperature=0), lambda ids: {"ids": ids})


layer_unbalanced = partial(layer, balance_coef=0.0)
