"""The gates of a replayed plan."""

import numpy as np
from support import layer_problem

import switch_np as snp


def test_a_plan_is_replayed():
    config = snp.SwitchConfig(num_experts=3, capacity_factor=1.0)
    params, x, _, _ = layer_problem(0, config, training=False)
    plan = snp.switch_layer.forward(params, x, config)[0].plan
    other = {**params, "w_router": -params["w_router"]}
    out, _ = snp.switch_layer.forward(other, x, config, plan=plan)
    assert out.plan is plan
    np.testing.assert_array_equal(out.gates, np.take_along_axis(out.probs, plan.expert, 1))
