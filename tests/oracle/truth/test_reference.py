"""The reference: its gradients and their terms, its lifted inputs, its refusals, its speed."""

import time
from dataclasses import replace

import numpy as np
import pytest
from oracle.problems import problem

import switch_np as snp
from switch_np import SwitchConfig, oracle

CONFIG = SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0)
ASKED, REF = problem(CONFIG, 30, 7, 5, padding=3, unused=1, seed=1)
OPEN, OPEN_REF = problem(CONFIG, 30, 7, 5, unused=1, seed=1)                    # without padding


def test_gradients_are_those_of_the_objective():
    asked, ref = problem(replace(CONFIG, router_bias=True), 30, 7, 5, padding=3, unused=1, seed=1)
    names = {"x": asked["x"], **asked["params"]}
    assert set(ref.grads) == set(names)
    for name, value in names.items():
        def objective(moved, name=name):
            params = {key: array.astype(complex) for key, array in (names | {name: moved}).items()}
            out, _ = snp.switch_layer.forward(params, params.pop("x"), asked["config"],
                                              plan=ref.plan, padding=asked["padding"])
            return ((out.y * asked["d_y"]).sum() + asked["balance_coef"] * out.balance_loss
                    + asked["z_coef"] * out.z_loss)
        assert snp.gradcheck.compare(name, ref.grads[name],
                                     snp.gradcheck.complex_step(objective, value)) <= 1e-12
    assert ref.objective == pytest.approx(objective(value).real, rel=1e-14)


def test_terms_and_seeds_sum_to_the_gradients():
    for name, grad in REF.grads.items():
        np.testing.assert_allclose(sum(REF.terms[name].values()), grad, atol=1e-15)
        parts = (REF.seeds["output"][name] + ASKED["balance_coef"] * REF.seeds["balance"][name]
                 + ASKED["z_coef"] * REF.seeds["z"][name])
        np.testing.assert_allclose(parts, grad, rtol=1e-12, atol=1e-15)
    assert {name: " ".join(terms) for name, terms in REF.terms.items()} == {
        "x": "experts gate balance z", "w_router": "gate balance z", "w_in": "experts",
        "w_out": "experts"}
    assert all(term.any() for terms in REF.terms.values() for term in terms.values())


def test_experts_term_of_x_is_what_a_frozen_router_leaves():
    """With gates and probabilities frozen, only the experts see x."""
    plan, d_x = OPEN_REF.plan, np.zeros_like(OPEN_REF.y)
    for token, choice in np.argwhere(plan.kept):
        e = plan.expert[token, choice]
        w_in, w_out = OPEN["params"]["w_in"][e], OPEN["params"]["w_out"][e]
        d_hidden = (OPEN_REF.gates[token, choice] * OPEN["d_y"][token]) @ w_out.T
        d_x[token] += (d_hidden * (OPEN["x"][token] @ w_in > 0)) @ w_in.T
    np.testing.assert_allclose(OPEN_REF.terms["x"]["experts"], d_x, atol=1e-14)


def test_inputs_are_lifted_and_never_shared():
    half = OPEN | {"x": OPEN["x"].astype(np.float16), "d_y": OPEN["d_y"].tolist()}
    ref = oracle.reference(**half)
    assert ref.y.dtype == np.float64 and ref.precision == "float16"
    assert (ref.problem.x == half["x"]).all()
    assert OPEN_REF.problem.x is not OPEN["x"]
    assert not np.shares_memory(OPEN_REF.problem.params["w_in"], OPEN["params"]["w_in"])


@pytest.mark.parametrize("change, error, words", [
    ({"config": 3}, TypeError, "config must be a SwitchConfig"),
    ({"params": [1]}, TypeError, "params must be a dict"),
    ({"d_y": np.zeros(3)}, ValueError, "d_y must have shape"),
    ({"plan": np.zeros(5, int)}, ValueError, "expert must have a row for each of 30"),
    ({"plan": {"kept": [1]}}, ValueError, "plan must be a Plan"),
    ({"plan": np.tile([0, 9], (30, 1))}, ValueError, "expert must lie in 0 .. 3"),
    ({"x": "no"}, TypeError, "array of numbers"),
    ({"training": True}, ValueError, "noise must be given"),
    ({"noise": {"jitter": 1}}, TypeError, "noise must be a Noise, got "),
])
def test_bad_arguments_are_named(change, error, words):
    with pytest.raises(error, match=words):
        oracle.reference(**ASKED | change)


@pytest.mark.parametrize("name", ["x", "d_y", "w_in", "w_router"])
def test_numbers_that_are_none_are_refused(name):
    spoilt = {**ASKED["params"], **ASKED}[name].copy()
    spoilt.flat[3] = np.nan
    change = {"params": {**ASKED["params"], name: spoilt}} if name[0] == "w" else {name: spoilt}
    with pytest.raises(ValueError, match=f"{name}.* must be finite, got nan"):
        oracle.reference(**ASKED | change)


def test_sizes_beyond_memory_are_refused_before_anything_is_allocated():
    start = time.perf_counter()
    endless = np.broadcast_to(np.float32(1), (10 ** 9, 30_000))
    weights = {"w_router": np.broadcast_to(0.0, (7, 4)),
               "w_in": np.broadcast_to(0.0, (4, 7, 10 ** 12)),
               "w_out": np.broadcast_to(0.0, (4, 10 ** 12, 7))}
    for change in ({"x": endless}, {"params": weights}):
        with pytest.raises(MemoryError, match="must fit into memory"):
            oracle.reference(**OPEN | change)
    assert time.perf_counter() - start < 0.1


def test_the_reference_is_fast():
    asked, _ = problem(SwitchConfig(num_experts=8), 512, 64, 256)
    start = time.process_time()
    oracle.reference(**asked)
    assert time.process_time() - start < 1.0


def test_an_empty_batch_is_a_problem_like_any_other():
    ref = oracle.reference(**OPEN | {"x": np.zeros((0, 7)), "d_y": np.zeros((0, 7))})
    assert ref.y.shape == (0, 7) and not ref.grads["w_in"].any()
    assert oracle.compare(ref, y=ref.y, grads=ref.grads).ok


def test_a_preset_is_taken_by_name():
    config = SwitchConfig.like("hf_mixtral", num_experts=5)
    asked, _ = problem(config, 12, 6, 4)
    ref = oracle.reference(**asked | {"config": "hf_mixtral"})
    assert ref.problem.config == config
    buffers = oracle.reference(**asked | {"config": replace(config, layout="buffers")})
    assert (buffers.y == ref.y).all()
    assert set(ref.grads) == {"x", "w_router", "w_in", "w_gate", "w_out"}
    np.testing.assert_allclose(ref.gates.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["deepspeed_top1", "deepspeed_top2", "mesh_tf_top2", "st_moe"])
def test_a_full_plan_replaces_the_noise_that_choices_hang_on(name, training):
    config = SwitchConfig.like(name, num_experts=4, jitter=0.0, logit_noise="none")
    asked = oracle.draw(config, 24, d_model=6, d_ff=8, training=training)
    own = oracle.reference(**asked)
    del asked["noise"]
    with pytest.raises(ValueError, match=r"^(noise|rng)"):
        oracle.reference(**asked)
    ref = oracle.reference(**asked, plan=own.plan)
    assert (ref.y == own.y).all() and (ref.grads["x"] == own.grads["x"]).all()
    assert oracle.compare(ref, y=own.y, grads=own.grads, plan=own.plan).ok
    wrong = oracle.compare(ref, y=2 * own.y, grads=own.grads)
    assert wrong.verdict == "fail" and wrong.diagnosis[0].startswith("y is multiplied by 2")


def test_hugging_face_counts_by_the_choice_before_rounding():
    """transformers 5.23: experts by probabilities in the input's precision, f by the logits."""
    config = SwitchConfig.like("hf_switch", num_experts=2, select_precision="bfloat16")
    x = np.array([[[0.0, 1e-4], [1e-4, 0.0], [0.0, 1e-4], [1e-4, 0.0]]])
    params = {"w_router": np.eye(2), "w_in": np.ones((2, 2, 3)), "w_out": np.ones((2, 3, 2))}
    plan = oracle.reference(x, params, config).plan
    assert plan.expert.ravel().tolist() == [0, 0, 0, 0]
    assert plan.balance_count.tolist() == [[2, 2]]
