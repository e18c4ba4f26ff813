"""Dispatch and combine."""

import numpy as np
import pytest

import switch_np as snp
from switch_np.plans import decide
from switch_np.switch import combine, dispatch


@pytest.mark.parametrize("layout", ["packed", "buffers"])
def test_dispatch_and_combine_are_adjoint(layout):
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.8, layout=layout)
    plan = decide(rng.random((15, 4)), config)
    x, rows = rng.standard_normal((15, 3)), rng.standard_normal((plan.num_rows, 3))
    there = (dispatch.forward(x, plan) * rows).sum()
    back = (x * dispatch.backward(rows, plan)).sum()
    np.testing.assert_allclose(there, back, rtol=1e-13)
    ones = np.ones((15, 2))
    np.testing.assert_allclose(combine.forward(rows, ones, plan)[0], dispatch.backward(rows, plan))
