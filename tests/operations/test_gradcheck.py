"""The check of a backward refuses what it cannot judge."""

import numpy as np
import pytest

from switch_np.operations import gradcheck


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
