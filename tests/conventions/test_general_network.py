"""The network of other libraries against the complex step."""

import pytest

from switch_np.conventions import general_network
from switch_np.conventions.table import CHOICES
from switch_np.conventions.units import Units
from switch_np.operations import dropout, gradcheck


@pytest.mark.parametrize("kind", CHOICES["expert_activation"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tokens, rate", [(6, 0.4), (0, 0.0)])
def test_general_network(rng, kind, gated, tokens, rate):
    keep = dropout.draw(rng, (tokens, 4), rate)
    params = {"w_in": rng.standard_normal((3, 4)), "w_out": rng.standard_normal((4, 3))}
    params |= {"w_gate": rng.standard_normal((3, 4))} if gated else {}
    gradcheck.check_backward(
        lambda i: general_network.forward(i["params"], i["x"], keep, rate, Units(kind)),
        lambda d_y, cache: dict(zip(["x", "params"], general_network.backward(d_y, cache))),
        {"x": rng.standard_normal((tokens, 3)), "params": params}, rng)
