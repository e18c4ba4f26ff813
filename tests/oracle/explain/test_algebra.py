"""Terms and factors: with error bars, by their right names."""

import numpy as np
import pytest
from oracle.problems import all_of, judged, of_museum, problem, without

from switch_np import SwitchConfig, oracle


@pytest.mark.parametrize("precision", [
    pytest.param("float64", marks=pytest.mark.thorough), "float32", "bfloat16"])
@pytest.mark.parametrize("exhibit, words", [
    ("balance_gradient_without_e",
     "the balance loss's gradient is divided by 4 (E, the experts)"),
    ("z_gradient_without_2", "the z-loss's gradient is divided by 2"),
    ("balance_counts_after_drop", "f counts what is left after drops"),
    ("gate_gradient_killed", "does not reach the router through the gates")])
def test_a_factor_has_error_bars_and_the_right_name(exhibit, words, precision):
    asked, ref = problem(precision=precision)
    report = judged(ref, of_museum(exhibit, asked, precision))
    assert words in report.diagnosis[0] and len(report.diagnosis) <= 5
    assert "coefficient" not in report.diagnosis[0] and "0.49" not in report.diagnosis[0]


def test_d_x_is_not_said_to_lack_what_reaches_the_router():
    _, ref = problem()
    report = judged(ref, all_of(ref, x=without(ref, "x", "balance")))
    assert report.diagnosis[0] == ("d_x = 1.00·experts + 1.00·gate + 0.00·balance + 1.00·z: only "
                                   "in d_x; d_w_router has the right terms")
    both = {name: without(ref, name, "balance") for name in ("x", "w_router")}
    assert "does not reach the router" in judged(ref, all_of(ref, **both)).diagnosis[0]


def test_a_mean_over_all_tokens_is_told_by_the_share_that_is_real():
    _, ref = problem(padding=5)
    wrong = {name: without(ref, name, "z", 5 / 32) for name in ("x", "w_router")}
    causes = judged(ref, all_of(ref, z_loss=ref.z_loss * 27 / 32, **wrong)).diagnosis
    assert causes[0] == "z_loss is multiplied by 0.8438 (the fraction of real tokens)"
    assert "the z-loss's gradient is multiplied by 0.8438" in causes[1]


def test_what_is_wrong_everywhere_is_not_blamed_on_experts_without_tokens():
    _, ref = problem(unused=1)
    wrong = ref.grads["w_in"] + 0.1 * np.random.default_rng(0).standard_normal((4, 8, 12))
    assert oracle.compare(ref, grads={"w_in": wrong}).diagnosis == ("unknown: d_w_in is wrong",)
    stale = ref.grads["w_in"] + (np.arange(4) == 3)[:, None, None]
    assert "not zero for experts" in oracle.compare(ref, grads={"w_in": stale}).diagnosis[0]


def test_a_factor_for_each_number_is_no_cause():
    _, ref = problem(SwitchConfig(num_experts=4, router_bias=True))
    wrong = ref.grads["b_router"] * [1.3, 0.2, 5.0, -2.0]
    report = oracle.compare(ref, y=ref.y, grads={"b_router": wrong})
    assert report.diagnosis == ("unknown: d_b_router is wrong; y is right",)


def test_zero_blocks_are_those_of_experts_with_tokens():
    """No token is dropped, and expert 3 has none: neither is said to be zero."""
    _, ref = problem(SwitchConfig(num_experts=4, capacity_factor=None), unused=1)
    wrong = ref.y * (ref.plan.expert != 1)
    assert oracle.compare(ref, y=wrong).diagnosis[0] == "y is zero for tokens of expert 1"
    w_in = ref.grads["w_in"] * (np.arange(4) != 1)[:, None, None]
    assert oracle.compare(ref, grads={"w_in": w_in}).diagnosis[0] == "d_w_in is zero for expert 1"


def test_an_idle_expert_with_a_gradient_may_have_got_tokens():
    _, ref = problem(unused=1)
    stale = ref.grads["w_in"] + (np.arange(4) == 3)[:, None, None]
    words = "d_w_in is not zero for experts without tokens (3): memory that nothing was written to"
    assert oracle.compare(ref, y=ref.y, grads={"w_in": stale}).diagnosis[0] == words
    report = oracle.compare(ref, y=ref.y + 1, grads={"w_in": stale})
    assert f"{words}, or tokens that they should not get" in report.diagnosis


def test_a_jitter_that_d_x_lacks_is_named():
    asked, ref = problem(SwitchConfig(num_experts=4, capacity_factor=None, jitter=0.3),
                         training=True)
    router = ref.grads["x"] - ref.terms["x"]["experts"]
    wrong = ref.terms["x"]["experts"] + router / asked["noise"].jitter
    report = oracle.compare(ref, y=ref.y, grads={**ref.grads, "x": wrong})
    assert report.diagnosis == (
        "d_x: what comes back through the router is not multiplied by the jitter",)


def test_a_sum_over_groups_is_named():
    _, ref = problem(SwitchConfig.like("paper", num_experts=8, balance_groups=4), 32)
    report = oracle.compare(ref, balance_loss=4 * ref.balance_loss)
    assert report.diagnosis[0] == (
        "balance_loss is multiplied by 4 (the groups with a balance loss of their own)")
