"""Rows of dropped tokens."""

import pytest
from oracle.explain.kernels import all_of, problem

import switch_np as snp
from switch_np import oracle


@pytest.mark.parametrize("name", ["paper", "labml"])
def test_a_gradient_of_dropped_tokens_is_named(name):
    small, large = (snp.SwitchConfig.like(name, num_experts=4, capacity=n) for n in (5, 32))
    asked, ref = problem(small, **{"batch": 2} if name == "labml" else {})
    roomy = oracle.reference(**asked | {"config": large})
    report = oracle.compare(ref, **all_of(ref, w_in=roomy.grads["w_in"]))
    assert report.diagnosis == ("d_w_in: dropped choices send a gradient too",)
