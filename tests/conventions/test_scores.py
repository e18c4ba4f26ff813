"""Scores that underflow have a slope of 0, not of 0 / 0."""

import numpy as np
import pytest

from switch_np.conventions import scores


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "sqrtsoftplus"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_score_that_underflows_has_slope_0(kind, dtype):
    x = np.array([[-2000.0], [3.0]], dtype)
    routing, cache = scores.forward({"w_router": np.array([[1.0, 0.5]], dtype)}, x, kind=kind)
    d_x, grads = scores.backward(np.ones((2, 2), dtype), np.zeros(2, dtype), cache)
    assert np.isfinite(routing.probs_TE).all()
    assert np.isfinite(grads["w_router"]).all() and np.isfinite(d_x).all()
