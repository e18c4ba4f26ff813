"""y with other gates, biases or a wrong shared expert is named: computed here in plain loops."""

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, oracle

CONFIG = SwitchConfig.like(
    "paper", num_experts=4, top_k=2, capacity_factor=None, renorm="pre", gate_scale=2.5,
    select_bias=True, expert_biases=True, shared_experts=1)
ASKED, REF = problem(CONFIG, 48, precision="float32")
W, X, EXPERT = ASKED["params"], ASKED["x"], REF.plan.expert
SCORES = np.take_along_axis(REF.probs, EXPERT, axis=1)
BIASED = SCORES + W["select_bias"][EXPERT]


def shared(x, times=1.0):
    return times * np.maximum(x @ W["shared_w_in"], 0) @ W["shared_w_out"]


def routed(gates, bias_gate=None):
    """Return what the experts give with these gates; `bias_gate` weighs the output bias."""
    y = np.zeros(X.shape)
    for t, k in np.ndindex(*gates.shape):
        e, weight = EXPERT[t, k], gates[t, k] if bias_gate is None else bias_gate
        hidden = np.maximum(X[t] @ W["w_in"][e] + W["b_in"][e], 0)
        y[t] += gates[t, k] * (hidden @ W["w_out"][e]) + weight * W["b_out"][e]
    return y


def first_line(y):
    return oracle.compare(REF, y=y.astype(np.float32)).diagnosis[0]


def test_the_loops_are_right():
    assert oracle.compare(REF, y=routed(REF.gates) + shared(X)).ok


@pytest.mark.parametrize("gates, words", [
    (np.ones_like(REF.gates), "y: the gates are not applied"),
    (REF.gates ** 2, "y: the gates are applied twice"),
    (SCORES, "y: the gates are the scores as they are"),
    (REF.gates / 2.5, "y: the gate scale, 2.5, is not applied"),
    (REF.gates * 2.5, "y: the gate scale, 2.5, is applied twice"),
    (REF.gates[:, ::-1], "y: the choices' gates are swapped"),
    (np.repeat(REF.gates[:, :1], 2, axis=1), "y: every choice gets the first one's gate"),
    (REF.gates * [1, 0], "y: the last choice is left out"),
    (REF.gates * (EXPERT != 1),
     f"y lacks the output of {(EXPERT == 1).sum()} of 96 choices of experts, as token"),
    (REF.gates.ravel()[np.add.outer(np.arange(48), [0, 1])],
     "y: each gate is read at token + choice, not at token · K + choice"),
    (np.stack([REF.gates.ravel()[:48], REF.gates.ravel()[48:]], axis=1),
     "y: the gates, (T, K), are read as if stored (K, T)"),
    (np.concatenate([REF.gates[:, 0], REF.gates[:, 1]]).reshape(48, 2),
     "y: the gates, stored (K, T), are read as if (T, K)"),
    (2.5 * np.take_along_axis(np.exp(REF.logits) / np.exp(REF.logits).sum(axis=0), EXPERT, axis=1),
     "y: the gates are the softmax over the tokens, not over the experts"),
    (2.5 * BIASED / BIASED.sum(axis=1, keepdims=True),
     "y: the gates are the scores + selection bias, divided by their sum"),
    (2.5 * BIASED, "y: the gates are the scores + selection bias"),
    (np.take_along_axis(REF.logits, EXPERT, 1), "y: the gates are the logits"),
    (REF.gates + 0.1 * np.sin(np.arange(96)).reshape(48, 2),
     "y is the right experts' outputs with other gates"),
])
def test_other_gates_are_named(gates, words):
    assert first_line(routed(gates) + shared(X)).startswith(words)


def test_a_factor_of_all_gates_is_named():
    assert "1.7" in first_line(routed(1.7 * REF.gates) + shared(X))


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
    assert first_line(y + wrong(X, y)) == f"y: {words}"


@pytest.mark.parametrize("weight, words", [(1.0, "added without the gate"), (0.0, "left out")])
def test_an_output_bias_is_named(weight, words):
    assert first_line(routed(REF.gates, weight) + shared(X)) == f"y: b_out is {words}"


@pytest.mark.parametrize("power, words", [(0, "lacks the gate"), (2, "has the gate twice")])
@pytest.mark.parametrize("name", ["w_in", "w_out"])
def test_a_gate_lost_on_the_way_back_is_named(name, power, words):
    """One choice for each token; the weights' gradients computed in a plain loop."""
    asked, ref = problem(SwitchConfig(num_experts=4, capacity_factor=None), precision="float32")
    wrong = {power: np.zeros(ref.grads[name].shape) for power in (1, power)}
    for t, e in enumerate(ref.plan.expert[:, 0]):
        before = asked["x"][t] @ asked["params"]["w_in"][e]
        for exponent, grad in wrong.items():
            d_out = ref.gates[t, 0] ** exponent * asked["d_y"][t]
            d_before = (asked["params"]["w_out"][e] @ d_out) * (before > 0)
            grad[e] += np.outer(asked["x"][t], d_before) if name == "w_in" else np.outer(
                np.maximum(before, 0), d_out)
    np.testing.assert_allclose(wrong[1], ref.grads[name], atol=1e-12)
    report = oracle.compare(ref, y=ref.y, grads={**ref.grads, name: wrong[power]},
                            precision="float32")
    assert report.diagnosis[0] == f"d_{name} {words}"


def test_a_shared_gate_on_all_is_named():
    asked, ref = problem(SwitchConfig.like("qwen2_moe", num_experts=4), precision="float32")
    gate = 1 / (1 + np.exp(-asked["x"] @ asked["params"]["shared_w_router"]))
    without = oracle.reference(**asked | {"params": asked["params"] | {
        "shared_w_out": 0 * asked["params"]["shared_w_out"]}})
    wrong = ref.y + (gate - 1) * without.y
    assert oracle.compare(ref, y=wrong.astype(np.float32)).diagnosis[0] == (
        "y: the shared expert's gate multiplies the routed experts' output too")


@pytest.mark.parametrize("order, words", [
    (np.argsort(EXPERT.ravel(), kind="stable"),
     "the order of the experts' rows to rows in the tokens' order"),
    (np.argsort(np.argsort(EXPERT.ravel(), kind="stable")),
     "the order of the tokens to rows in the experts' order")])
def test_output_biases_of_other_rows_are_named(order, words):
    bias = W["b_out"][EXPERT.ravel()[order]].reshape(48, 2, -1)
    y = routed(REF.gates, 0.0) + np.einsum("tk,tkd->td", REF.gates, bias) + shared(X)
    assert first_line(y) == f"y: b_out is added in {words}"


@pytest.mark.parametrize("bias, slope, words", [
    (0, 1, "the gates' gradient is taken with outputs that lack b_out"),
    (1, 0, "the sum that divides the gates is held fixed")])
def test_a_wrong_gradient_of_the_gates_is_named(bias, slope, words):
    """d_b_router computed here: that of the gates, of their softmax, and of the losses."""
    config = SwitchConfig.like("paper", num_experts=4, top_k=2, capacity_factor=None, renorm="pre",
                               expert_biases=True, router_bias=True)
    asked, ref = problem(config, 24)

    def gradient(bias, slope):
        d_logits = np.zeros((24, 4))
        for t, chosen in enumerate(ref.plan.expert):
            out = [row_of(asked, t, e) - (1 - bias) * asked["params"]["b_out"][e]
                   for e in chosen]
            d_gates, total = out @ asked["d_y"][t], ref.probs[t, chosen].sum()
            d_probs = np.zeros(4)
            d_probs[chosen] = (d_gates - slope * d_gates @ ref.gates[t]) / total
            d_logits[t] = ref.probs[t] * (d_probs - d_probs @ ref.probs[t])
        return d_logits.sum(axis=0)
    rest = ref.grads["b_router"] - ref.terms["b_router"]["gate"]
    np.testing.assert_allclose(rest + gradient(1, 1), ref.grads["b_router"], atol=1e-11)
    report = oracle.compare(ref, y=ref.y, grads={"b_router": rest + gradient(bias, slope)})
    assert report.diagnosis == (f"d_b_router: {words}",)


def row_of(asked, t, e):
    """Return the output of expert e for token t."""
    w_in, b_in, w_out, b_out = (
        asked["params"][name][e] for name in ("w_in", "b_in", "w_out", "b_out"))
    return np.maximum(asked["x"][t] @ w_in + b_in, 0) @ w_out + b_out
