"""AdamW against its formulas; clipping and the schedule."""

import numpy as np

from switch_np.training import optimizer


def test_adamw_is_its_formulas():
    rng = np.random.default_rng(0)
    want = {"w": rng.standard_normal((3, 2)), "b": rng.standard_normal(2)}
    params = {name: value.copy() for name, value in want.items()}
    moments = optimizer.init(params)
    config = optimizer.AdamW(beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.1)
    m, v = {"w": 0, "b": 0}, {"w": 0, "b": 0}
    for t in range(1, 6):
        grads = {name: rng.standard_normal(value.shape) for name, value in params.items()}
        optimizer.step(params, grads, moments, config, 0.05, t)
        for name, g in grads.items():
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.95 * v[name] + 0.05 * g * g
            adam = (m[name] / (1 - 0.8 ** t)) / (np.sqrt(v[name] / (1 - 0.95 ** t)) + 1e-3)
            decay = 0.1 if name == "w" else 0.0
            want[name] = want[name] - 0.05 * adam - 0.05 * decay * want[name]
            np.testing.assert_allclose(params[name], want[name], rtol=1e-12)


def test_clip_leaves_small_gradients_alone():
    grads = {"a": np.array([0.3, 0.4])}
    clipped, norm = optimizer.clip(grads, 1.0)
    assert clipped["a"] is grads["a"] and norm == 0.5


def test_schedule_rises_peaks_and_ends_at_zero():
    rates = [optimizer.learning_rate(n, 100, 10, 3e-3) for n in range(1, 101)]
    assert max(rates) == rates[9] == 3e-3 and rates[-1] == 0
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[9:]) < 0).all()
    small = [optimizer.learning_rate(n, 100, 10, 3e-13) for n in range(1, 101)]
    np.testing.assert_allclose(np.array(small) * 1e10, rates, rtol=1e-12)
