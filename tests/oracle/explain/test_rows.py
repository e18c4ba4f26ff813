"""Rows of dropped tokens."""

import pytest
from oracle.problems import DROPS, all_of, judged, problem

from switch_np import SwitchConfig, oracle


@pytest.mark.parametrize("name", ["paper", "labml"])
def test_a_gradient_of_dropped_tokens_is_named(name):
    small, large = (SwitchConfig.like(name, num_experts=4, capacity=n) for n in (5, 32))
    asked, ref = problem(small, **{"batch": 2} if name == "labml" else {})
    roomy = oracle.reference(**asked | {"config": large})
    report = judged(ref, all_of(ref, w_in=roomy.grads["w_in"]))
    assert report.diagnosis == ("d_w_in: dropped choices send a gradient too",)


@pytest.mark.parametrize("part", ["experts", "gate"])
def test_a_part_of_d_x_that_dropped_choices_send_is_named(part):
    asked, ref = problem(DROPS)
    roomy = oracle.reference(**asked | {"config": SwitchConfig(
        num_experts=4, top_k=2, capacity_factor=None)})
    wrong = ref.grads["x"] + roomy.terms["x"][part] - ref.terms["x"][part]
    assert judged(ref, all_of(ref, x=wrong)).diagnosis == (
        "d_x: dropped choices send a gradient too",)
