"""The update of the selection bias evens out a load; numbers of MaxText are in `peers`."""

import numpy as np
import pytest

import switch_np as snp
from switch_np.conventions import selection_bias


def test_many_steps_even_out_the_load(rng):
    config = snp.SwitchConfig.like("hf_deepseek_v3", num_experts=8, top_k=2)
    params = snp.switch_layer.init(rng, 6, 4, config, scale=5.0)
    x = rng.standard_normal((256, 6)) + 0.5

    def load():
        return snp.switch_layer.forward(params, x, config)[0].plan.load.sum(axis=0)

    before = load().max()
    for _ in range(200):
        params["select_bias"] = selection_bias.updated(params["select_bias"], load(), 0.003)
    assert before > 100 and load().max() < 75               # 64 each would be even


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_only_a_load_beside_the_mean_moves_a_bias(dtype):
    """The mean of these is no whole number; with three alike a float's could miss it by a bit."""
    bias = np.array([0.5, -0.25, 0.0], dtype)
    assert selection_bias.updated(bias, np.array([3, 4, 4]), 0.25).tolist() == [0.75, -0.5, -0.25]
    moved = selection_bias.updated(bias, np.full(3, 7), 0.25)
    assert moved.dtype == dtype and (moved == bias).all()


@pytest.mark.parametrize("arguments, message", [
    (([0.0], np.ones(1, int), 0.1), "bias_E must be a NumPy array"),
    ((np.zeros(2), np.ones(3, int), 0.1), r"load_E must have shape \(2,\)"),
    ((np.zeros(2), np.array([1, -1]), 0.1), r"load_E must lie in 0 \.\. inf"),
    ((np.zeros(2), np.ones(2, int), -0.1), "rate must be finite, at least 0")])
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        selection_bias.updated(*arguments)
