"""y with other gates, biases or a wrong shared expert is named: computed here in plain loops."""

import numpy as np
import pytest

import switch_np as snp
from switch_np import oracle

CONFIG = snp.SwitchConfig.like(
    "paper", num_experts=4, top_k=2, capacity_factor=None, renorm="pre", gate_scale=2.5,
    select_bias=True, expert_biases=True, shared_experts=1)
ASKED = oracle.draw(CONFIG, 48, d_model=8, d_ff=12, precision="float32")
REF = oracle.reference(**ASKED)
SCORES = np.take_along_axis(REF.probs, REF.plan.expert, axis=1)
BIASED = SCORES + ASKED["params"]["select_bias"][REF.plan.expert]


def share(values):
    return values / values.sum(axis=1, keepdims=True)


def shared(x, times=1.0):
    w = ASKED["params"]
    return times * np.maximum(x @ w["shared_w_in"], 0) @ w["shared_w_out"]


def routed(gates, bias_gate=None):
    """Return what the experts give with these gates; `bias_gate` weighs the output bias."""
    w, y = ASKED["params"], np.zeros(ASKED["x"].shape)
    for t, k in np.ndindex(*gates.shape):
        e, x = REF.plan.expert[t, k], ASKED["x"][t]
        hidden = np.maximum(x @ w["w_in"][e] + w["b_in"][e], 0)
        weight = gates[t, k] if bias_gate is None else bias_gate
        y[t] += gates[t, k] * (hidden @ w["w_out"][e]) + weight * w["b_out"][e]
    return y


def first_line(y):
    return oracle.compare(REF, y=y.astype(np.float32)).diagnosis[0]


def test_the_loops_are_right():
    assert oracle.compare(REF, y=routed(REF.gates) + shared(ASKED["x"])).ok


@pytest.mark.parametrize("gates, words", [
    (np.ones_like(REF.gates), "y: the gates are not applied"),
    (REF.gates ** 2, "y: the gates are applied twice"),
    (SCORES, "y: the gates are the scores as they are"),
    (REF.gates / 2.5, "y: the gate scale, 2.5, is not applied"),
    (REF.gates * 2.5, "y: the gate scale, 2.5, is applied twice"),
    (REF.gates[:, ::-1], "y: the choices' gates are swapped"),
    (np.repeat(REF.gates[:, :1], 2, axis=1), "y: every choice gets the first one's gate"),
    (REF.gates * [1, 0], "y: the last choice is left out"),
    (2.5 * share(BIASED), "y: the gates are the scores + selection bias, divided by their sum"),
    (2.5 * BIASED, "y: the gates are the scores + selection bias"),
    (np.take_along_axis(REF.logits, REF.plan.expert, 1), "y: the gates are the logits"),
    (1.7 * REF.gates, "y is multiplied by 1.7"),
    (REF.gates + 0.1 * np.sin(np.arange(96)).reshape(48, 2),
     "y is the right experts' outputs with other gates"),
])
def test_other_gates_are_named(gates, words):
    line = first_line(routed(gates) + shared(ASKED["x"]))
    assert line.startswith(words) or (words.startswith("y is multiplied") and "1.7" in line)


@pytest.mark.parametrize("wrong, words", [
    (lambda x, y: 0 * y, "the shared expert is left out"),
    (lambda x, y: shared(x, 2), "the shared expert is added twice"),
    (lambda x, y: shared(y), "the shared expert reads the routed experts' output in place of x"),
    (lambda x, y: shared(x + y), "the shared expert reads x + the routed experts' output"),
    (lambda x, y: shared(x, 2.5), "the shared expert is multiplied by the gate scale, 2.5"),
    (lambda x, y: shared(x, 0.3), "the shared expert is multiplied by 0.3"),
])
def test_a_wrong_shared_expert_is_named(wrong, words):
    y = routed(REF.gates)
    assert first_line(y + wrong(ASKED["x"], y)) == f"y: {words}"


@pytest.mark.parametrize("weight, words", [(1.0, "added without the gate"), (0.0, "left out")])
def test_an_output_bias_is_named(weight, words):
    assert first_line(routed(REF.gates, weight) + shared(ASKED["x"])) == f"y: b_out is {words}"
