"""AdamW against its formulas; clipping and the schedule."""

import copy

import numpy as np
import pytest

from switch_np.training import adafactor, optimizer


def test_adamw_is_its_formulas():
    rng = np.random.default_rng(0)
    want = {"w": rng.standard_normal((3, 2)), "b": rng.standard_normal(2)}
    params = {name: value.copy() for name, value in want.items()}
    moments = optimizer.init(params)
    config = optimizer.AdamW(beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.1)
    m, v = {"w": 0, "b": 0}, {"w": 0, "b": 0}
    for t in range(1, 6):
        grads = {name: rng.standard_normal(value.shape) for name, value in params.items()}
        if t == 3:                # other buffers than `init` made, and another order of names
            moments = copy.deepcopy(dict(reversed(moments.items())))
        optimizer.step(params, dict(sorted(grads.items())), moments, config, 0.05, t)
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
    assert clipped["a"].tolist() == [0.3, 0.4] and norm == 0.5


def test_schedule_rises_peaks_and_ends_at_zero():
    rates, small = (np.array([optimizer.learning_rate(n, 100, 10, peak) for n in range(1, 101)])
                    for peak in (3e-3, 3e-13))
    assert max(rates) == rates[9] == 3e-3 and rates[-1] == 0
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[9:]) < 0).all()
    np.testing.assert_allclose(small * 1e10, rates, rtol=1e-12)


@pytest.mark.parametrize("method", [optimizer, adafactor])
@pytest.mark.parametrize("change, words", [
    ({"grads": {"w": np.ones((3, 1))}}, r"step 1: grads\['w'\] must have shape \(3, 2\)"),
    ({"grads": {"v": np.ones((3, 2))}}, r"grads must have .* differ in \['v', 'w'"),
    ({"grads": {"w": np.full((3, 2), np.nan)}}, r"step 1: grads\['w'\] must be finite, got nan at"),
    ({"grads": {"w": np.full((3, 2), np.inf)}}, r"step 1: grads\['w'\] must be finite, got inf at"),
    ({"grads": {"w": np.ones((3, 2), np.float32)}}, r"grads\['w'\] must be float64 like the rest"),
    ({"grads": {"w": np.ones((3, 2), complex)}}, r"grads\['w'\] must hold float32 or float64"),
    ({"grads": None}, "grads must be a Mapping, got None"),
    ({"moments": {}}, "moments must have the keys"),
    ({"learning_rate": np.nan}, "learning_rate must be finite, at least 0, got nan"),
    ({"count": 0}, "count must be at least 1, got 0"),
    ({"config": {}}, "config must be a Ada")])
def test_what_does_not_fit_is_refused_and_changes_nothing(method, change, words):
    params = {"w": np.ones((3, 2))}
    config = method.AdamW() if method is optimizer else method.Adafactor()
    moments = optimizer.init(params) if method is optimizer else adafactor.init(params, config)
    with pytest.raises((ValueError, TypeError), match=words):
        method.step(**{"params": params, "grads": {"w": np.ones((3, 2))}, "moments": moments,
                       "config": config, "learning_rate": 0.1, "count": 1, **change})
    assert (params["w"] == 1).all()


@pytest.mark.parametrize("call, words", [
    (lambda: optimizer.clip({"w": np.ones(2)}, np.nan), "max_norm must be finite"),
    (lambda: optimizer.clip({"w": np.array([1, np.nan])}, 1.0), r"grads\['w'\] must be finite"),
    (lambda: optimizer.clip({"w": np.full(2, 1e200)}, 1.0), "grads must have a finite norm"),
    (lambda: optimizer.learning_rate(0, 9, 2, 1.0), "count must be at least 1, got 0"),
    (lambda: optimizer.learning_rate(1, 9, 2, np.inf), "peak must be finite")])
def test_rates_and_norms_are_finite(call, words):
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=words):
        call()
