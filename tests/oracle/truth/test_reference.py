"""The reference: its terms, its lifted inputs, its replayed plans, its refusals."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import switch_np as snp
from switch_np import SwitchConfig, oracle
from switch_np.conventions import arguments
from switch_np.oracle.truth import adapters, decisions


def problem(**options):
    sizes = {"num_tokens": 30, "d_model": 7, "d_ff": 5, "padding": 3, "unused": 1, "seed": 1}
    sizes |= {name: options.pop(name) for name in list(options) if name in sizes}
    config = SwitchConfig(**{"num_experts": 4, "top_k": 2, "capacity_factor": 1.0, **options})
    return oracle.draw(config, **sizes)


def test_gradients_are_those_of_the_objective():
    asked = problem(router_bias=True)
    ref = oracle.reference(**asked)
    names = {"x": asked["x"], **asked["params"]}
    assert set(ref.grads) == set(names)
    for name, value in names.items():
        def objective(moved, name=name):
            params = {**asked["params"], name: moved}
            x = params.pop("x", asked["x"])
            params = {key: array.astype(complex) for key, array in params.items()}
            out, _ = snp.switch_layer.forward(params, x.astype(complex), asked["config"],
                                              plan=ref.plan, padding=asked["padding"])
            return ((out.y * asked["d_y"]).sum() + asked["balance_coef"] * out.balance_loss
                    + asked["z_coef"] * out.z_loss)
        assert snp.gradcheck.compare(name, ref.grads[name],
                                     snp.gradcheck.complex_step(objective, value)) <= 1e-12
    assert ref.objective == pytest.approx(objective(value.astype(complex)).real, rel=1e-14)


def test_terms_and_seeds_sum_to_the_gradients():
    asked = problem()
    ref = oracle.reference(**asked)
    for name, grad in ref.grads.items():
        np.testing.assert_allclose(sum(ref.terms[name].values()), grad, atol=1e-15)
        parts = (ref.seeds["output"][name] + asked["balance_coef"] * ref.seeds["balance"][name]
                 + asked["z_coef"] * ref.seeds["z"][name])
        np.testing.assert_allclose(parts, grad, rtol=1e-12, atol=1e-15)
    assert set(ref.terms["x"]) == {"experts", "gate", "balance", "z"}
    assert set(ref.terms["w_router"]) == {"gate", "balance", "z"}
    assert set(ref.terms["w_in"]) == {"experts"}
    assert all(term.any() for terms in ref.terms.values() for term in terms.values())


def test_experts_term_of_x_is_what_a_frozen_router_leaves():
    """With gates and probabilities frozen, only the experts see x."""
    asked = problem(padding=0)
    ref = oracle.reference(**asked)
    plan, d_x = ref.plan, np.zeros_like(ref.y)
    for token, choice in np.argwhere(plan.kept):
        e = plan.expert[token, choice]
        w_in, w_out = asked["params"]["w_in"][e], asked["params"]["w_out"][e]
        d_hidden = (ref.gates[token, choice] * asked["d_y"][token]) @ w_out.T
        d_x[token] += (d_hidden * (asked["x"][token] @ w_in > 0)) @ w_in.T
    np.testing.assert_allclose(ref.terms["x"]["experts"], d_x, atol=1e-14)


def test_inputs_are_lifted_and_never_shared():
    asked = problem(padding=0)
    half = asked | {"x": asked["x"].astype(np.float16), "d_y": asked["d_y"].tolist()}
    ref = oracle.reference(**half)
    assert ref.y.dtype == np.float64 and ref.precision == "float16"
    assert (ref.problem.x == half["x"]).all()
    alone = oracle.reference(**asked)
    assert alone.problem.x is not asked["x"]
    assert not np.shares_memory(alone.problem.params["w_in"], asked["params"]["w_in"])


def test_a_plan_is_replayed_whatever_it_says():
    asked = problem(padding=0)
    own = oracle.reference(**asked).plan
    again = oracle.reference(**asked, plan={"expert": own.expert, "kept": own.kept,
                                            "slot": own.slot})
    for name in ("expert", "slot", "kept", "token", "choice", "start", "load", "balance_count"):
        assert (getattr(again.plan, name) == getattr(own, name)).all(), name
    drifted = (own.expert + 1) % 4
    ref = oracle.reference(**asked, plan=drifted)
    assert (ref.plan.expert == drifted).all() and ref.margin.min() < 0
    batch = oracle.reference(**asked, plan=drifted.reshape(3, 10, 2).tolist())
    assert (batch.y == ref.y).all()


def test_foreign_slots_give_the_same_numbers_in_another_order():
    asked = problem(padding=0)
    own = oracle.reference(**asked)
    queue = own.plan.kept_load[0][own.plan.expert]
    turned = np.where(own.plan.kept, queue - 1 - own.plan.slot, -1)
    ref = oracle.reference(**asked, plan={"expert": own.plan.expert, "slot": turned})
    assert (ref.plan.slot == turned).all() and (ref.plan.token != own.plan.token).any()
    for name, grad in own.grads.items():
        np.testing.assert_allclose(ref.grads[name], grad, atol=1e-14)
    turned[own.plan.kept] = 0
    with pytest.raises(ValueError, match="slot must differ within the buffer"):
        oracle.reference(**asked, plan={"expert": own.plan.expert, "slot": turned})


@pytest.mark.parametrize("change, error, words", [
    ({"config": 3}, TypeError, "config must be a SwitchConfig"),
    ({"params": [1]}, TypeError, "params must be a dict"),
    ({"d_y": np.zeros(3)}, ValueError, "d_y must have shape"),
    ({"plan": np.zeros(5, int)}, ValueError, "expert must have a row for each of 30"),
    ({"plan": {"kept": [1]}}, ValueError, "plan must be a Plan"),
    ({"plan": np.tile([0, 9], (30, 1))}, ValueError, "expert must lie in 0 .. 3"),
    ({"x": "no"}, TypeError, "array of numbers"),
    ({"training": True}, ValueError, "noise must be handed in"),
    ({"noise": {"jitter": 1}}, TypeError, "noise must be a Noise, got "),
])
def test_bad_arguments_are_named(change, error, words):
    with pytest.raises(error, match=words):
        oracle.reference(**{**problem(), **change})


def test_sizes_beyond_memory_are_refused_before_anything_is_allocated():
    asked = problem(padding=0)
    endless = np.broadcast_to(np.float32(1), (10 ** 9, 30_000))
    start = time.perf_counter()
    with pytest.raises(MemoryError, match="must fit into memory"):
        oracle.reference(**asked | {"x": endless})
    weights = {"w_router": np.broadcast_to(0.0, (7, 4)),
               "w_in": np.broadcast_to(0.0, (4, 7, 10 ** 12)),
               "w_out": np.broadcast_to(0.0, (4, 10 ** 12, 7))}
    with pytest.raises(MemoryError, match="must fit into memory"):
        oracle.reference(**asked | {"params": weights})
    assert time.perf_counter() - start < 0.1


def test_the_reference_is_fast():
    """In a process with one BLAS thread: two of them wait for each other on a busy machine."""
    code = """
import time
from switch_np import SwitchConfig, oracle
asked = oracle.draw(SwitchConfig(num_experts=8), 512, d_model=64, d_ff=256)
for _ in range(3):
    start = time.perf_counter()
    oracle.reference(**asked)
    print(time.perf_counter() - start)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                           cwd=Path(__file__).parents[3]).stdout
    assert min(map(float, found.split())) < 1.0


def test_an_empty_batch_is_a_problem_like_any_other():
    ref = oracle.reference(**problem(padding=0) | {"x": np.zeros((0, 7)), "d_y": np.zeros((0, 7))})
    assert ref.y.shape == (0, 7) and not ref.grads["w_in"].any()
    assert oracle.compare(ref, y=ref.y, grads=ref.grads).ok


class Tensor:
    """What a tensor of another library looks like from outside."""

    def __init__(self, values, dtype):
        self.values, self.dtype, self.shape = values, dtype, values.shape

    def detach(self):
        return self

    cpu = detach

    def float(self):
        return Tensor(self.values.astype(np.float32), "torch.float32")

    def __array__(self, dtype=None, copy=None):
        if "bfloat16" in str(self.dtype):
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values


def test_adapters_go_by_what_an_array_can_do():
    tensor = Tensor(np.array([1.5, -2.0]), "torch.bfloat16")
    assert oracle.to_numpy(tensor).tolist() == [1.5, -2.0]
    assert adapters.precision_of(tensor, np.zeros(1)) == "bfloat16"
    assert adapters.precision_of(1.0) is None
    with pytest.raises(TypeError, match="array of numbers"):
        oracle.to_numpy({"a": 1})


def test_group_counts_match_the_layer():
    for groups, shape in (("all", (6, 7)), ("rows", (3, 2, 7)), (2, (6, 7))):
        config = SwitchConfig(num_experts=4, groups=groups)
        asked = oracle.draw(config, 6, d_model=7, d_ff=5)
        asked |= {"x": asked["x"].reshape(shape), "d_y": asked["d_y"].reshape(shape)}
        own = oracle.reference(**asked)
        again = oracle.reference(**asked, plan=own.plan.expert)
        assert arguments.num_groups(config, shape) == own.plan.load.shape[0]
        assert (again.plan.kept == own.plan.kept).all()


def test_a_preset_is_taken_by_name():
    config = SwitchConfig.like("hf_mixtral", num_experts=5)
    asked = oracle.draw(config, 12, d_model=6, d_ff=4)
    ref = oracle.reference(**asked | {"config": "hf_mixtral"})
    assert ref.problem.config == config
    buffers = oracle.reference(**asked | {"config": replace(config, layout="buffers")})
    assert (buffers.y == ref.y).all()
    assert set(ref.grads) == {"x", "w_router", "w_in", "w_gate", "w_out"}
    np.testing.assert_allclose(ref.gates.sum(axis=1), 1, rtol=1e-14)


def test_kept_choices_keep_their_order():
    plan = decisions.as_plan({"expert": [0, 0, 0, 1], "kept": [False, True, True, True]},
                             SwitchConfig(num_experts=2, capacity=2), 4)
    assert plan.slot[:, 0].tolist() == [-1, 0, 1, 0] and plan.load.tolist() == [[3, 1]]
