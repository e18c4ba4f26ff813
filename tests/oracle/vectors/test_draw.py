"""Drawn problems: every term of the router's gradient is of one size."""

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle

CONFIGS = {
    "the paper": SwitchConfig(num_experts=4),
    "top 2": SwitchConfig(num_experts=8, top_k=2, capacity_factor=0.6),
    "groups of rows": SwitchConfig(num_experts=4, groups="rows"),
    "Mixtral": SwitchConfig.like("hf_mixtral", num_experts=4, z_when="always"),
    "Megatron": SwitchConfig.like("megatron", num_experts=4, z_when="always"),
    "Mesh TensorFlow": SwitchConfig.like("mesh_tf_top2", num_experts=4, z_when="always"),
}


@pytest.mark.parametrize("num_tokens", [16, 300])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_parts_of_the_objective_are_of_one_size(name, num_tokens):
    for options in ({}, {"padding": 5, "unused": 1}, {"scale": 0.01, "training": True}):
        ref = oracle.reference(**oracle.draw(CONFIGS[name], num_tokens, 8, 12, **options))
        sizes = [np.linalg.norm(part) for part in ref.terms["w_router"].values()]
        assert len(sizes) == 3 and max(sizes) < 1.1 * min(sizes), (options, sizes)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_loss_of_a_drawn_problem_can_hide(precision):
    for config in (CONFIGS["the paper"], CONFIGS["top 2"]):
        ref = oracle.reference(**oracle.draw(config, 128, 32, 48, precision=precision))
        for term in ("gate", "balance", "z"):
            lost = {"w_router": ref.grads["w_router"] - ref.terms["w_router"][term]}
            assert oracle.compare(ref, y=ref.y, grads=lost, precision=precision).verdict == "fail"


def test_where_the_gates_sum_is_constant_the_losses_are_of_one_size():
    config = SwitchConfig.like("hf_mixtral", num_experts=4, top_k=1, z_when="always")
    terms = oracle.reference(**oracle.draw(config, 40, 8, 12)).terms["w_router"]
    sizes = {name: np.linalg.norm(part) for name, part in terms.items()}
    assert sizes["gate"] < 1e-9 and abs(sizes["balance"] / sizes["z"] - 1) < 0.1


def test_rows_that_share_buffers_are_drawn_as_rows():
    asked = oracle.draw(CONFIGS["groups of rows"], 12, 6, 7, padding=2)
    assert asked["x"].shape == asked["d_y"].shape == (1, 12, 6)
    assert asked["padding"].shape == (1, 12)


def test_a_loss_that_is_constant_has_no_huge_coefficient():
    """All experts are chosen, so f is 1 and the balance loss E: its gradient is rounding errors."""
    config = SwitchConfig.like("qwen3_moe", num_experts=4, top_k=4)
    asked = oracle.draw(config, 24, 8, 12)
    assert asked["balance_coef"] == 0.5
    ref = oracle.reference(**asked)
    report = oracle.compare(ref, grads={"w_router": 1.1 * ref.grads["w_router"]})
    assert report.verdict == "fail"
