"""Renormalised gates; `test_bind` has their gradients."""

import numpy as np
import pytest
from conventions.random_layers import problem

import switch_np as snp
from switch_np.conventions.noise import Noise


@pytest.mark.parametrize("name, settings", [
    ("hf_mixtral", {"top_k": 1}), ("nanomoe", {"top_k": 1}),
    ("deepspeed_top2", {"capacity": 1, "second_policy": "none", "second_choice": "largest"})])
def test_a_gate_of_1_sends_the_router_nothing(name, settings):
    """Divided by itself a gate is constant: exactly 0, not merely little."""
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig.like(name, num_experts=4, **settings)
    params, x, _, noise, _ = problem(rng, config, group_size=12)
    noise = noise if config.conventions.logit_noise != "none" else Noise()
    out, cache = snp.switch_layer.forward(params, x, config, noise=noise)
    _, grads = snp.switch_layer.backward(rng.standard_normal(x.shape), cache)
    assert out.plan.kept.any() and (out.gates[out.plan.kept] == 1).all()
    assert not grads["w_router"].any() and grads["w_out"].any()
    if name == "nanomoe":
        assert not snp.switch_layer.backward(0 * x, cache, 1.0)[1]["w_router"].any()
        assert snp.switch_layer.backward(0 * x, cache, 0.0, 1.0)[1]["w_router"].any()
