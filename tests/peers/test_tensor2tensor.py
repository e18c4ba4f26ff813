"""tensorflow/tensor2tensor: utils/expert_utils_test: TruncatingDispatcher, PadRemover."""

import numpy as np
from peers.layers import identity_experts, like

import switch_np as snp
from switch_np import plans
from switch_np.switch import combine, dispatch

# Requests of two rows of three tokens for two experts with two slots each.
EXPERT = np.array([[0, 1], [0, 1], [0, 1], [0, 1], [1, 0], [0, 1]])
ASKED = np.array([[1, 0], [1, 1], [1, 0], [0, 0], [1, 0], [1, 0]], bool)
FITS = np.array([[1, 0], [1, 1], [0, 0], [0, 0], [1, 0], [1, 0]], bool)
CONFIG = like("megablocks", 2, top_k=2, capacity=2, layout="buffers")
PLAN = plans.from_choices(EXPERT, CONFIG, kept=ASKED & FITS, num_groups=2)


def test_who_asked_first_is_served():
    """The third token asks for an expert that two before it have filled."""
    first = np.where(ASKED[:, :1], EXPERT[:, :1], 0)
    config = like("megablocks", 2, top_k=1, capacity=2, padding_routing="left_out")
    plan = plans.from_choices(first, config, num_groups=2, padding=~ASKED[:, 0])
    np.testing.assert_array_equal(plan.kept, FITS[:, :1])


def test_dispatch():
    """Filled slots are equal; empty ones are zeros here, a copy of the first token there."""
    x = np.array([[3, 4], [5, 6], [7, 8], [2, 3], [4, 5], [6, 7]], float)
    by_group = dispatch.forward(x, PLAN).reshape(2, 2, 2, 2).swapaxes(0, 1)
    np.testing.assert_array_equal(by_group, [
        [[[3, 4], [5, 6]], [[5, 6], [0, 0]]], [[[6, 7], [0, 0]], [[4, 5], [0, 0]]]])


def test_combine():
    y = np.array([[[[7, 12], [11, 30]], [[-1, 30], [9, 9]]],
                  [[[13, 42], [9, 9]], [[-1, 20], [9, 9]]]], float)
    out, _ = combine.forward(y.swapaxes(0, 1).reshape(8, 2), np.ones((6, 2)), PLAN)
    np.testing.assert_array_equal(out, [[7, 12], [10, 60], [0, 0], [0, 0], [-1, 20], [13, 42]])


def test_padding_is_taken_out_and_comes_back_as_zeros():
    x = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0], [0, 0, 0], [0, 0, 0], [10, 11, 12],
                  [13, 14, 15], [0, 0, 0]], float)
    config, padding = snp.SwitchConfig(num_experts=1, capacity_factor=None), (x == 0).all(axis=1)
    out, _ = snp.switch_layer.forward(identity_experts(3, config, 2.0), x, config, padding=padding)
    np.testing.assert_array_equal(out.y, 2 * x)
    np.testing.assert_array_equal(dispatch.forward(x, out.plan), x[~padding])
