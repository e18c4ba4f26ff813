"""Shared formulas against the complex step; random masks and weights against statistics."""

import numpy as np
import pytest

from switch_np.operations import (
    activations, dropout, gradcheck, initialization, relu, rounded, softmax)


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


def test_relu_has_slope_zero_at_the_kink(rng):
    x = rng.standard_normal((4, 5))
    x[1, 2] = 0
    gradcheck.check_backward(
        lambda inputs: (relu.forward(inputs["x"]), relu.forward(inputs["x"])),
        lambda d_y, y: {"x": relu.backward(d_y, y)}, {"x": x}, rng)


def test_the_activation_relu_is_the_rectifier(rng):
    x = rng.standard_normal((5, 4))
    for value in (x, np.float32(x), x + 1e-3j * x[::-1], rounded.enter(x, "bfloat16")):
        found, want = activations.forward("relu", value), relu.forward(value)
        assert type(found) is type(want) and found.dtype == value.dtype
        np.testing.assert_array_equal(found, want)
    far = np.array([[-np.inf, 1.0]])
    assert activations.forward("relu", far).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_dropout(rng, rate):
    keep = dropout.draw(rng, (6, 5), rate)
    gradcheck.check_backward(
        lambda inputs: (dropout.forward(inputs["x"], keep, rate), None),
        lambda d_y, _: {"x": dropout.backward(d_y, keep, rate)},
        {"x": rng.standard_normal((6, 5))}, rng)


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
