"""google-deepmind/optax: alias_test, factorized_test: Adafactor finds minima, and stays finite."""

import numpy as np
import pytest

from switch_np.training import adafactor
from switch_np.training.adafactor import Adafactor

CONFIG = Adafactor(relative_step=False, scale_parameter=True)


def rosenbrock(x):
    past = x[1] - x[0] ** 2
    return np.array([-2 * (1 - x[0]) - 400 * x[0] * past, 200 * past])


def test_it_finds_minima():
    """With a step of 5e-3, of a parabola and of Rosenbrock's valley, to 3 %."""
    params = {"parabola": np.array([-1.0, 10.0, 1.0]), "valley": np.zeros(2)}
    ends = {"parabola": np.array([1.0, -1.0, 1.0]), "valley": np.ones(2)}
    moments = adafactor.init(params, CONFIG)
    for count in range(1, 10001):
        grads = {"parabola": 2 * (params["parabola"] - ends["parabola"]),
                 "valley": rosenbrock(params["valley"])}
        adafactor.step(params, grads, moments, CONFIG, 5e-3, count)
    for name, end in ends.items():
        np.testing.assert_allclose(params[name], end, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_first_step_is_finite(scale):
    params = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}
    grads = {"a": scale * np.array([500.0, 5.0]), "b": scale * np.array([300.0, 3.0])}
    adafactor.step(params, grads, adafactor.init(params, Adafactor()), Adafactor(), 1e-2, 1)
    assert all(np.isfinite(value).all() for value in params.values())
    assert not np.array_equal(params["a"], [1.0, 2.0])
