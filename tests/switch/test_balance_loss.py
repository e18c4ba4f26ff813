"""The load-balancing loss: known values, and groups of padding."""

import numpy as np
from support import layer_problem

import switch_np as snp


def test_balance_loss_is_one_at_uniform_and_can_lie_below():
    even = np.full((8, 4), 0.25)
    config = snp.SwitchConfig(num_experts=4)
    params = {"w_router": np.zeros((2, 4)), "w_in": np.zeros((4, 2, 3)),
              "w_out": np.zeros((4, 3, 2))}
    out, _ = snp.switch_layer.forward(params, np.ones((8, 2)), config)
    np.testing.assert_array_equal(out.probs, even)
    assert out.balance_loss == 1                 # whichever experts the tie gives
    probs = np.array([[0.51, 0.49]] * 9 + [[0.01, 0.99]])
    params = {"w_router": np.eye(2), "w_in": np.zeros((2, 2, 1)), "w_out": np.zeros((2, 1, 2))}
    out, _ = snp.switch_layer.forward(params, np.log(probs), snp.SwitchConfig(num_experts=2))
    assert round(float(out.balance_loss), 3) == 0.936


def test_a_group_of_padding_alone_counts_nothing():
    config = snp.SwitchConfig(num_experts=3, groups="rows")
    params, x, _, _ = layer_problem(0, config, shape=(3, 4), training=False)
    padding = np.zeros((3, 4), bool)
    padding[1] = True
    both, cache = snp.switch_layer.forward(params, x, config, padding=padding)
    alone, _ = snp.switch_layer.forward(params, x[[0, 2]], config)
    np.testing.assert_allclose(both.balance_loss, alone.balance_loss, rtol=1e-14)
    np.testing.assert_allclose(both.z_loss, alone.z_loss, rtol=1e-14)
    d_x, _ = snp.switch_layer.backward(np.ones_like(x), cache, 0.7, 0.3)
    assert not both.y[1].any() and not d_x[1].any()
