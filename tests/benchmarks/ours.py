"""Our layer, our training step and our optimizer, as subjects."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.subject import Subject
from switch_np import model as models
from switch_np.operations import tree
from switch_np.training import optimizer


def layer(**sizes: Any) -> Subject:
    """Return the layer, forward and backward."""
    case = cases.layer(**sizes)
    return Subject(lambda: cases.layer_step(case), lambda: dict(cases.layer_step(case)[0]))


def layer_unbalanced(**sizes: Any) -> Subject:
    """Return the layer of a loss without a balance loss."""
    return layer(**sizes, balance_coef=0.0)


def step(**sizes: Any) -> Subject:
    """Return the whole training step: loss, gradients, clipping, AdamW."""
    case = cases.model(**sizes)
    moments, rule = optimizer.init(case.params), optimizer.AdamW()

    def gradients() -> tuple[models.Loss, dict[str, Any]]:
        return models.loss_and_grads(case.params, case.batch, case.config, training=True)

    def advance() -> None:
        _, grads = gradients()
        grads, _ = optimizer.clip(grads, cases.MAX_NORM)
        optimizer.step(case.params, grads, moments, rule, cases.LEARNING_RATE, 100)

    def numbers() -> dict[str, np.ndarray]:
        loss, grads = gradients()
        return {"loss": loss.total, **tree.flatten(grads)}

    return Subject(advance, numbers)


def adamw(**sizes: Any) -> Subject:
    """Return the optimizer's step alone, on a layer's parameters."""
    case = cases.layer(**sizes)
    found, _ = cases.layer_step(case)
    grads = {name: found[name] for name in case.params}
    moments, rule = optimizer.init(case.params), optimizer.AdamW()
    return Subject(lambda: optimizer.step(case.params, grads, moments, rule, cases.LEARNING_RATE,
                                          100), dict)
