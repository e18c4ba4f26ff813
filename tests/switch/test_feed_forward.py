"""The paper's feed-forward network against the complex step."""

import numpy as np
import pytest

from switch_np.operations import dropout, gradcheck
from switch_np.switch import feed_forward


@pytest.mark.parametrize("tokens, rate", [(6, 0.0), (6, 0.4), (0, 0.0)])
def test_feed_forward(rng, tokens, rate):
    keep = dropout.draw(rng, (tokens, 4), rate)
    x = rng.standard_normal((tokens, 3))
    params = {"w_in": rng.standard_normal((3, 4)), "w_out": rng.standard_normal((4, 3))}
    gradcheck.check_backward(
        lambda i: feed_forward.forward(i["params"], i["x"], keep, rate),
        lambda d_y, cache: dict(zip(["x", "params"], feed_forward.backward(d_y, cache))),
        {"x": x, "params": params}, rng)
    all_kept, _ = feed_forward.forward(params, x, np.ones((tokens, 4), bool))
    np.testing.assert_array_equal(all_kept, feed_forward.forward(params, x)[0])
