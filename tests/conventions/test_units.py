"""Hidden units against the formulas of libraries that have limits; `test_bind` has gradients."""

import numpy as np
import pytest

from switch_np.conventions import units
from switch_np.conventions.table import Conventions
from switch_np.conventions.units import Units


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("made, formula", [
    (Units("silu", 1.702, 1.5, "input", 1.0), lambda g, u: np.minimum(g, 1.5) * sigmoid(
        1.702 * np.minimum(g, 1.5)) * (np.clip(u, -1.5, 1.5) + 1)),                     # GPT-OSS
    (Units("silu", limit=1.5), lambda g, u: np.minimum(g, 1.5) * sigmoid(
        np.minimum(g, 1.5)) * np.clip(u, -1.5, 1.5)),                               # DeepSeek-V4
    (Units("silu", limit=1.5, limit_at="output"), lambda g, u: np.minimum(g * sigmoid(g), 1.5)
     * np.clip(u, -1.5, 1.5)),                                                         # Step-3.7
], ids=["gpt_oss", "deepseek_v4", "step3p7"])
def test_limits_are_those_of_the_libraries(rng, made, formula):
    gate, linear = 3 * rng.standard_normal((2, 50, 4))
    np.testing.assert_allclose(units.forward(made, linear, gate), formula(gate, linear), rtol=1e-14)


def test_at_a_limit_the_gradient_goes_through_as_in_torch_clamp():
    made, at = Units("silu", limit=2.0), np.array([[2.0, -2.0, np.nextafter(2, 3)]])
    for a, u, which in ((at, at * 0 + 1, 0), (at * 0 + 1, at, 1)):
        d = units.backward(np.ones((1, 3)), made, a, u)[which]
        assert ((d != 0) == [[True, True, False]]).all()


def test_an_inexact_limit_is_that_of_the_precision():
    """0.1 rounds in float32; one more makes 1.1, rounded once more, as in a kernel."""
    made, one = Units("silu", limit=0.1, offset=1.0), np.ones((1, 1), np.float32)
    got = units.forward(made, one, one)
    most = np.float32(0.1)
    want = most * np.float32(sigmoid(np.float64(most))) * (most + np.float32(1))
    assert got.dtype == np.float32 and abs(got - want) <= np.spacing(want)


@pytest.mark.parametrize("settings, message", [
    ({"expert_limit": 7.0}, "expert_limit must be None unless expert_gated=True, got 7.0"),
    ({"expert_linear_offset": 1.0}, "must be 0.0 unless expert_gated=True"),
    ({"expert_silu_factor": 1.7}, "must be 1.0 unless expert_activation='silu'")])
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Conventions(**settings)
