"""Certificates: every preset's gradients hold, and no wrong gradient gets one."""

from dataclasses import replace

import numpy as np
import pytest

import switch_np as snp
from switch_np import SwitchConfig, oracle


def preset(name, **options):
    config = SwitchConfig.like(name, num_experts=8 if "deepseek" in name else 4)
    return oracle.reference(**oracle.draw(
        config, 24, d_model=7, d_ff=5, padding=3, batch=2 if config.groups == "rows" else None,
        **options))


@pytest.mark.parametrize("name, training", [
    *((name, True) for name in snp.presets()),
    *((name, False) for name in ("paper", "mesh_tf_top2", "hf_deepseek_v3", "nanomoe"))])
def test_every_preset_is_certified(name, training):
    ref = preset(name, seed=1, training=training)
    certificate = oracle.certify(ref)
    assert certificate.ok and certificate.residual > 0, str(certificate)
    seeds = {seed for seed, _, _ in certificate.residuals}
    tensors = {tensor for _, tensor, _ in certificate.residuals}
    assert seeds == {"output", "balance", "z"} and tensors == set(ref.grads)


def test_a_detached_factor_is_named():
    assert "surrogate" not in str(oracle.certify(preset("paper")))
    assert "dispatch mask's value, 1, frozen" in str(oracle.certify(preset("st_moe")))
    unit = SwitchConfig.like("labml", num_experts=4, gate_gradient="unit")
    ref = oracle.reference(**oracle.draw(unit, 24, d_model=7, d_ff=5, training=True))
    certificate = oracle.certify(ref)
    assert certificate.ok and "gates' own divisors frozen" in str(certificate)


def test_gradients_that_cancel_are_certified():
    """With one choice and renormalised gates the gate is 1, and the router's gradient rounding."""
    config = SwitchConfig.like("hf_mixtral", num_experts=4, top_k=1)
    ref = oracle.reference(**oracle.draw(config, 24, d_model=7, d_ff=5))
    assert np.abs(ref.seeds["output"]["w_router"]).max() < 1e-14
    assert oracle.certify(ref).ok


def test_no_wrong_gradient_is_certified():
    asked = oracle.draw(SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.9), 24, d_model=7,
                        d_ff=5, padding=2)
    ref = oracle.reference(**asked)
    for seed in ref.seeds:
        for name, grad in ref.seeds[seed].items():
            if not grad.any():
                continue
            changes = {"scaled": grad * (1 + 1e-9), "zero": np.zeros_like(grad)}
            first = grad.copy()
            first[0] *= 1 + 1e-9
            changes["one row"] = first
            for wrong in changes.values():
                if (wrong == grad).all():
                    continue
                seeds = {**ref.seeds, seed: {**ref.seeds[seed], name: wrong}}
                assert not oracle.certify(replace(ref, seeds=seeds)).ok, (seed, name)
