"""Other formulas of the balance loss are named, in the loss and in gradients."""

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, gradcheck, oracle

CONFIG = SwitchConfig.like("paper", num_experts=4, top_k=2, capacity_factor=None, router_bias=True)
ASKED, REF = problem(CONFIG, 20)
F = np.bincount(REF.plan.expert[:, 0], minlength=4) / 20
HOT = np.eye(4)[REF.plan.expert].sum(axis=1)


def loss(formula, bias):
    logits = REF.logits + bias - ASKED["params"]["b_router"]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return formula(logits, probs)


@pytest.mark.parametrize("formula, words", [
    (lambda logits, p: 4 * F @ p.mean(axis=0), None),
    (lambda logits, p: 4 * F @ logits.mean(axis=0),
     "P is the mean of the logits, not of the probabilities"),
    (lambda logits, p: 4 * (F[:, None] * (HOT * p).mean(axis=0)).sum(),
     "the sum of f is multiplied by the sum of the chosen experts' mean probabilities"),
    (lambda logits, p: 4 * F @ F + 0 * p.sum(), "f is multiplied by itself, not by P"),
    (lambda logits, p: 4 * p.mean(axis=0) @ p.mean(axis=0), "P is multiplied by itself, not by f"),
])
def test_another_formula_is_named(formula, words):
    bias = ASKED["params"]["b_router"]
    other = gradcheck.complex_step(lambda b: loss(formula, b), bias)
    wrong = REF.grads["b_router"] + ASKED["balance_coef"] * (
        other - REF.seeds["balance"]["b_router"])
    report = oracle.compare(REF, y=REF.y, balance_loss=loss(formula, bias),
                            grads={"b_router": wrong})
    first = "" if words is None else f"balance_loss: {words}"
    assert report.ok if words is None else report.diagnosis[0] == first
    if words and "f is multiplied by itself" not in words:       # it is the loss left out, as well
        assert report.diagnosis[1] == f"d_b_router: {words}"
