"""Experts alone: the layer's numbers without its router, certified, and by a loop of their own."""

import numpy as np
import pytest
from oracle.problems import alone, judged, of_museum

import switch_np as snp
from switch_np import SwitchConfig, oracle
from switch_np.conventions.table import Conventions
from switch_np.oracle.truth.alone import OF_ROUTERS

CONFIGS = {
    "paper": (SwitchConfig(num_experts=4, capacity_factor=1.0), {"padding": 3, "unused": 1}),
    "drops": (SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.8), {}),
    "swiglu": (SwitchConfig.like("hf_mixtral", num_experts=4), {}),
    "biases": (SwitchConfig.like("fairseq", num_experts=4), {"padding": 3}),
    "gate at the input": (SwitchConfig.like("tutel", num_experts=4, top_k=2, gate_at="input"), {}),
    "gate at both": (SwitchConfig(num_experts=4, top_k=2, conventions=Conventions(
        gate_at="both", expert_biases=True)), {}),
    "shared": (SwitchConfig.like("hf_deepseek_v3", num_experts=4, top_k=2, select_groups=1,
                                 select_groups_kept=1), {}),
    "gated identity": (SwitchConfig.like("hf_switch_v4", num_experts=4, capacity=2), {}),
    "straight through": (SwitchConfig.like("st_moe", num_experts=4), {})}


def asked_of(name):
    config, options = CONFIGS[name]
    return alone(oracle.draw(config, 24, 7, 5, seed=2, **options))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_convention_is_certified(name):
    ref = oracle.reference(**asked_of(name))
    certificate = oracle.certify(ref)
    assert certificate.ok and certificate.residual > 0, str(certificate)
    assert {tensor for _, tensor, _ in certificate.residuals} == set(ref.grads)
    assert ref.grads["gates"].any() and ref.balance_loss is ref.z_loss is None
    assert oracle.compare(ref, y=ref.y, grads=ref.grads, complete=True).ok


@pytest.mark.parametrize("name", ["paper", "swiglu", "shared"])
def test_a_layers_own_gates_give_the_layers_numbers(name):
    config, options = CONFIGS[name]
    asked = oracle.draw(config, 24, 7, 5, seed=2, **options)
    whole = oracle.reference(**asked)
    ref = oracle.reference(**alone(asked) | {"gates": whole.gates})
    assert (ref.y == whole.y).all() and (ref.grads["x"] == whole.terms["x"]["experts"]).all()
    for key in set(ref.grads) - {"x", "gates"}:
        assert (ref.grads[key] == whole.grads[key]).all()
    assert not set(ref.grads) & set(OF_ROUTERS)


def test_gates_are_those_of_a_loop():
    """y = Σ_k g_k relu(x W_in) W_out, and its derivative along each input by the complex step."""
    asked = asked_of("drops")
    ref, plan = oracle.reference(**asked), asked["plan"]
    arrays = {"x": asked["x"], "gates": asked["gates"], **asked["params"]}
    for name, value in arrays.items():
        def objective(moved, name=name):
            of = {**arrays, name: moved}
            y = np.zeros(ref.y.shape, complex)
            for token, choice in np.argwhere(plan.kept):
                e = plan.expert[token, choice]
                hidden = of["x"][token] @ of["w_in"][e]
                hidden = np.where(hidden.real > 0, hidden, 0)
                y[token] += of["gates"][token, choice] * (hidden @ of["w_out"][e])
            return (y * asked["d_y"]).sum()
        assert snp.gradcheck.compare(name, ref.grads[name],
                                     snp.gradcheck.complex_step(objective, value)) <= 1e-12
    assert objective(value).real == pytest.approx(ref.objective, rel=1e-13)


def test_rows_of_tokens_and_a_presets_name_will_do():
    asked = asked_of("swiglu")
    ref, k = oracle.reference(**asked), asked["gates"].shape[1]
    rows = {name: asked[name].reshape(2, 12, -1) for name in ("x", "d_y", "gates")}
    same = oracle.reference(**asked | rows | {
        "config": "hf_mixtral", "plan": asked["plan"].expert.reshape(2, 12, k)})
    assert (same.y.ravel() == ref.y.ravel()).all()
    grads = {**same.grads, "gates": same.grads["gates"].reshape(2, 12, k)}
    assert oracle.compare(ref, y=same.y, grads=grads, complete=True).ok


@pytest.mark.parametrize("change, words", [
    ({"plan": None}, "plan must name the experts that the gates weight, got None"),
    ({"balance_coef": 0.1}, "balance_coef and z_coef must be 0 with gates="),
    ({"gates": np.ones((24, 3))}, r"gates must hold a number for each of the \(24, 2\) choices"),
    ({"gates": np.full((24, 2), np.nan)}, "gates must be finite, got nan"),
    ({"params": {"w_in": np.ones((4, 7, 5))}}, r"params must have the keys \['w_in', 'w_out'\]"),
    ({"params": {"w_out": np.ones((4, 7, 5))}}, r"params must hold w_in, got"),
    ({"gates": None}, "params must hold w_router, .*; without a router, gates= and plan= take")])
def test_bad_arguments_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        oracle.reference(**asked_of("drops") | change)


def test_what_no_router_is_known_for_is_not_judged():
    ref = oracle.reference(**asked_of("drops"))
    for more, words in (({"z_loss": 1.0}, "z_loss must not be given for experts alone"),
                        ({"expert": ref.plan.expert}, "expert, kept, slot and plan must not be")):
        with pytest.raises(ValueError, match=words):
            oracle.compare(ref, y=ref.y, **more)
    report = oracle.compare(ref, y=ref.y)
    assert report.not_judged == ("d_x", "d_w_in", "d_w_out", "d_gates")
    assert "experts alone, 24 tokens" in str(report)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", *(
    pytest.param(name, marks=pytest.mark.thorough) for name in ("float64", "float16"))])
@pytest.mark.parametrize("name", ["paper", "swiglu", "shared"])
def test_a_right_kernel_passes_and_one_gates_gradient_off_fails(name, precision):
    config, options = CONFIGS[name]
    asked = alone(oracle.draw(config, 24, 7, 5, seed=2, precision=precision, **options), precision)
    ref, got = oracle.reference(**asked), of_museum(None, asked, precision)
    assert judged(ref, got).ok, str(judged(ref, got))
    sigma, wrong = ref.sigma(precision)["d_gates"], got["grads"]["gates"].copy()
    wrong[2, 0] += 40 * max(sigma[2, 0], sigma.max() / 2)
    report = judged(ref, got | {"grads": {**got["grads"], "gates": wrong}})
    assert not report.tensors["d_gates"].ok and report.tensors["d_gates"].at == (2, 0)
