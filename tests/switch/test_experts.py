"""The experts: few rows beside their width, no rows, and one expert for all."""

import numpy as np
import pytest
from support import check_layer, layer_problem

import switch_np as snp
from switch_np.switch import feed_forward


@pytest.mark.parametrize("layout", ["packed", "buffers"])
def test_gradients_of_experts_with_few_rows_beside_the_width(layout):
    config = snp.SwitchConfig(num_experts=4, expert_dropout=0.3, layout=layout)
    plan = check_layer(3, config, d_model=16, d_ff=3)
    assert 0 < 2 * np.diff(plan.start).max() <= 16           # such weights are not turned


def test_gradients_with_an_expert_that_nobody_chose_are_exactly_zero():
    config = snp.SwitchConfig(num_experts=3, router_bias=True, capacity_factor=None)
    params, x, _, _ = layer_problem(0, config, training=False)
    params["b_router"][1] = -50.0
    out, cache = snp.switch_layer.forward(params, x, config)
    _, grads = snp.switch_layer.backward(np.ones_like(x), cache)
    assert out.plan.load[0, 1] == 0
    assert not grads["w_in"][1].any() and not grads["w_out"][1].any()
    assert grads["w_in"][0].any() and grads["w_in"][2].any()


def test_one_expert_with_room_for_all_is_the_dense_network():
    config = snp.SwitchConfig(num_experts=1, capacity_factor=1.0)
    params, x, _, _ = layer_problem(0, config, training=False)
    dense = {"w_in": params["w_in"][0], "w_out": params["w_out"][0]}
    out, cache = snp.switch_layer.forward(params, x, config)
    want, dense_cache = feed_forward.forward(dense, x)
    np.testing.assert_array_equal(out.y, want)
    d_x, grads = snp.switch_layer.backward(x, cache)
    want_d_x, want_grads = feed_forward.backward(x, dense_cache)
    np.testing.assert_array_equal(d_x, want_d_x)
    np.testing.assert_array_equal(grads["w_in"][0], want_grads["w_in"])
    assert not grads["w_router"].any()           # one expert: p = 1 whatever the router says
