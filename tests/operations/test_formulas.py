"""Shared formulas against the complex step; random masks and weights against statistics."""

import numpy as np
import pytest

from switch_np.operations import dropout, gradcheck, initialization, relu, softmax


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 1), (7, 5), (2, 3, 4)])
def test_softmax(rng, shape):
    gradcheck.check_backward(
        lambda inputs: (softmax.forward(inputs["x"]), softmax.forward(inputs["x"])[0]),
        lambda d_probs, d_log_z, probs: {
            "x": softmax.backward(d_probs, probs) + d_log_z[..., None] * probs},
        {"x": 3 * rng.standard_normal(shape)}, rng)


def test_softmax_of_large_logits_is_finite():
    probs, log_z = softmax.forward(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    assert probs.tolist() == [[1, 0], [0.5, 0.5]]
    assert log_z.tolist() == [1e4, -1e4 + np.log(2)]
    for scores in (np.array([[999.0] * 40, [-999.0] * 40]), np.full((2, 40), -999.0)):
        np.testing.assert_allclose(softmax.of(scores.copy), 1 / 40, rtol=1e-7)


def test_relu_has_slope_zero_at_the_kink(rng):
    x = rng.standard_normal((4, 5))
    x[1, 2] = 0
    gradcheck.check_backward(
        lambda inputs: (relu.forward(inputs["x"]), relu.forward(inputs["x"])),
        lambda d_y, y: {"x": relu.backward(d_y, y)}, {"x": x}, rng)
    assert relu.forward(np.array([-np.inf, 1.0])).tolist() == [0.0, 1.0]


def test_dropout_keeps_the_mean_and_the_rate(rng):
    keep = dropout.draw(rng, (200, 500), 0.3)
    assert abs(keep.mean() - 0.7) < 0.01
    assert abs(dropout.forward(np.ones((200, 500)), keep, 0.3).mean() - 1) < 0.01


def test_truncated_normal_is_cut_at_two_deviations_and_not_clipped(rng):
    values = initialization.truncated_normal(rng, (400, 400), 25, 0.25)
    deviation = 0.1
    assert abs(values).max() <= 2 * deviation
    assert abs(values.std() / deviation - 0.8796) < 0.01    # of a normal cut at ±2
    assert (abs(values) > 1.999 * deviation).mean() < 1e-3  # clipping would pile up 4.5 % there
