"""The router against the complex step."""

import pytest

from switch_np.operations import gradcheck
from switch_np.switch import router


@pytest.mark.parametrize("tokens, scaled", [(5, False), (5, True), (0, True)])
def test_router(rng, tokens, scaled):
    scale = rng.uniform(0.5, 1.5, (tokens, 3)) if scaled else None

    def backward(d_logits, d_probs, d_log_z, cache):
        return dict(zip(["x", "params"], router.backward(d_probs, d_log_z, cache, d_logits)))

    gradcheck.check_backward(
        lambda i: router.forward(i["params"], i["x"], scale), backward,
        {"x": rng.standard_normal((tokens, 3)), "params": {
            "w_router": rng.standard_normal((3, 4)), "b_router": rng.standard_normal(4)}}, rng)
