"""Certificates: every preset's gradients hold, and no wrong gradient gets one."""

from dataclasses import replace

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, oracle
from switch_np.conventions.libraries import PRESETS


def reference(name, training=False, padding=3, **options):
    config = SwitchConfig.like(name, **{"num_experts": 4, **options})
    return problem(config, 16, 7, 5, seed=1, padding=padding, training=training,
                   batch=2 if config.groups == "rows" else None)[1]


# Between them: every kind of score, gate, loss and shared expert, and both frozen factors.
UNLIKE = ("paper", "st_moe", "mesh_tf_top2", "hf_deepseek_v3", "gpt_oss", "qwen2_moe")


@pytest.mark.parametrize("name, training", [
    *((name, True) for name in UNLIKE), ("paper", False), ("hf_deepseek_v3", False),
    *(pytest.param(name, training, marks=pytest.mark.thorough)
      for name in (*PRESETS, "glm5_next") for training in (True, False)
      if not (name in UNLIKE and training))])
def test_every_preset_is_certified(name, training):
    ref = reference(name, training)
    certificate = oracle.certify(ref)
    assert certificate.ok and certificate.residual > 0, str(certificate)
    seeds = {seed for seed, _, _ in certificate.residuals}
    tensors = {tensor for _, tensor, _ in certificate.residuals}
    assert seeds == {"output", "balance", "z"} and tensors == set(ref.grads)


def test_a_detached_factor_is_named():
    assert "surrogate" not in str(oracle.certify(reference("paper")))
    assert "dispatch mask's value, 1, frozen" in str(oracle.certify(reference("st_moe")))
    certificate = oracle.certify(reference("labml", True, 0, gate_gradient="unit"))
    assert certificate.ok and "gates' own divisors frozen" in str(certificate)


def test_gradients_that_cancel_are_certified():
    """With one choice and renormalised gates the gate is 1, and the router's gradient rounding."""
    ref = reference("hf_mixtral", top_k=1)
    assert np.abs(ref.seeds["output"]["w_router"]).max() < 1e-14
    assert oracle.certify(ref).ok


def test_no_wrong_gradient_is_certified():
    ref = reference("paper", padding=2, num_experts=3, top_k=2, capacity_factor=0.9)
    for seed, grads in ref.seeds.items():
        for name, grad in grads.items():
            one_row = grad.copy()
            one_row[0] *= 1 + 1e-9
            for wrong in (one_row, 0 * grad):
                if (wrong != grad).any():
                    seeds = {**ref.seeds, seed: {**grads, name: wrong}}
                    assert not oracle.certify(replace(ref, seeds=seeds)).ok, (seed, name)
