"""Arrays whose every operation rounds."""

import math

import numpy as np

from switch_np.operations import activations
from switch_np.operations import roundoff
from switch_np.oracle.truth.rounding_array import rough_class


def rough(array):
    given = array.copy().view(rough_class(roundoff.named("float32"), np.random.default_rng(0)))
    given.given = True
    return given


def test_a_product_into_an_array_is_in_doubt_too():
    a, b = rough(np.ones((2, 3))), rough(np.ones((3, 4)))
    into = np.empty_like(a, shape=(2, 4))
    assert (np.matmul(a, b, out=into).doubt == (a @ b).doubt).all()


def test_the_cumulative_normal_is_as_inexact_as_that_of_other_libraries():
    """All take (1 + erf) / 2, whose small numbers are differences of large ones."""
    x = np.linspace(-5, 3, 400).astype(np.float32)
    erf = np.float32([math.erf(value) for value in x / np.sqrt(np.float32(2))])
    usual = np.float32(0.5) * x * (1 + erf)
    want = activations.forward("gelu", x.astype(float))
    samples = activations.forward("gelu", rough(np.repeat(x[:, None].astype(float), 100, axis=1)))
    sigma = np.sqrt(np.mean((np.asarray(samples) - want[:, None]) ** 2, axis=1))
    z = (usual - want) / sigma
    assert np.abs(z).max() < 6 and np.sqrt(np.mean(z ** 2)) < 1.5
