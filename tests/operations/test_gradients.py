"""Complex step through each leaf operation, and the helpers that are no operation."""

import numpy as np
import pytest

from switch_np.operations import check, dropout, initialization, relu, softmax
from switch_np.operations import gradcheck


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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


@pytest.mark.parametrize("call, error, words", [
    (lambda: check.integer("n", True, 0), TypeError, "n must be a whole number, got True"),
    (lambda: check.integer("n", 1.0, 0), TypeError, "n must be a whole number, got 1.0"),
    (lambda: check.number("x", float("nan"), 0), ValueError, "x must be finite, at least 0, got n"),
    (lambda: check.number("x", "1"), TypeError, "x must be a number, got '1'"),
    (lambda: check.choice("c", "d", ["a", "b"]), ValueError, "c must be one of 'a', 'b', got 'd'"),
    (lambda: check.floats("x", [1.0], (1,)), TypeError, "x must be a NumPy array, got"),
    (lambda: check.floats("x", np.ones(2, int), (2,)), TypeError, "got int64"),
    (lambda: check.floats("x", np.ones(2, np.float16), (2,)), TypeError, "got float16"),
    (lambda: check.floats("x", np.ones(2), (2,), like=np.ones(1, np.float32)), TypeError,
     "x must be float32 like the rest, got float64"),
    (lambda: check.floats("x", np.array([1, np.inf]), (2,), finite=True), ValueError,
     r"x must be finite, got inf at \(1,\)"),
    (lambda: check.integers("i", np.array([0, 5]), (2,), 0, 5), ValueError,
     r"i must lie in 0 .. 4, got 5 at \(1,\)"),
    (lambda: check.booleans("m", np.ones(2), (2,)), TypeError, "m must be a NumPy array of bool"),
    (lambda: check.keys("p", {"a": 1}, {"b"}), ValueError, r"p must have the keys \['b'\]"),
])
def test_messages_name_the_argument_what_came_and_what_is_wanted(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_the_check_refuses_what_is_no_number(rng):
    inputs = {"x": np.ones(3)}
    with pytest.raises(AssertionError, match="x: want NaN or infinity"):
        gradcheck.check_backward(lambda given: (given["x"] * np.nan, given["x"]),
                                 lambda d_y, x: {"x": 7 * x}, inputs, rng)
    with pytest.raises(ValueError, match="tolerance must be finite"):
        gradcheck.check_backward(lambda given: (given["x"] ** 2, given["x"]),
                                 lambda d_y, x: {"x": 9 * x * d_y}, inputs, rng, tolerance=np.nan)
    for derivative in (gradcheck.complex_step, gradcheck.central_difference):
        with pytest.raises(TypeError, match="x must be real, got complex128"):
            derivative(lambda x: (x ** 2).sum(), np.array([1 + 2j]))
