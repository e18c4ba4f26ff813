"""The router of other libraries; `test_bind` has its gradients."""

import numpy as np
import pytest

from switch_np.conventions import scores
from switch_np.conventions.table import CHOICES


@pytest.mark.parametrize("kind", CHOICES["scores"])
def test_no_gradient_of_the_logits_means_zeros(kind):
    rng = np.random.default_rng(0)
    params, x = {"w_router": rng.standard_normal((3, 4))}, rng.standard_normal((5, 3))
    out, cache = scores.forward(params, x, kind=kind)
    none = scores.backward(out.probs_TE, 0 * out.log_z_T, cache)
    zeros = scores.backward(out.probs_TE, 0 * out.log_z_T, cache, 0 * out.logits_TE)
    assert (none[0] == zeros[0]).all() and (none[1]["w_router"] == zeros[1]["w_router"]).all()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "sqrtsoftplus"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_score_that_underflows_has_slope_0(kind, dtype):
    x = np.array([[-2000.0], [3.0]], dtype)
    routing, cache = scores.forward({"w_router": np.array([[1.0, 0.5]], dtype)}, x, kind=kind)
    d_x, grads = scores.backward(np.ones((2, 2), dtype), np.zeros(2, dtype), cache)
    assert np.isfinite(routing.probs_TE).all()
    assert np.isfinite(grads["w_router"]).all() and np.isfinite(d_x).all()
