"""facebookresearch/fairscale: tests/nn/moe: top-2 gating, once by torch's seeds, and the layer."""

import numpy as np
import pytest
from peers.layers import facts, identity_experts, like, on_logits, weights

import switch_np as snp
from switch_np import Noise, plans


def config_of(e, **settings):
    return like("fairseq", e, expert_biases=False, eval_capacity_fraction=None, **settings)


def test_gating_by_seed():
    """Its balance loss is ours over the square of the number of experts."""
    f = facts("fairscale")
    out = on_logits(f["logits"], config_of(6), noise=Noise(second=f["gumbel"]))
    assert out.plan.capacity == 4 and (out.plan.kept_load <= 4).all()
    assert float(out.balance_loss) / 6 ** 2 == pytest.approx(.0267, rel=.01)
    assert weights(out).sum() == pytest.approx(12) and (weights(out) >= 0).all()


def test_the_first_expert_overflows(rng):
    logits = rng.standard_normal((8, 4))
    logits[:, 0] = logits.max(axis=1) + 1
    plan = on_logits(logits, config_of(4), rng=rng).plan
    assert (plan.expert[:, 0] == 0).all()
    assert plan.slot[:, 0].tolist() == [0, 1, 2, 3, -1, -1, -1, -1]


@pytest.mark.parametrize("e, settings, kept", [
    (1, {"top_k": 1, "renorm_single": True, "second_choice": "largest"}, 1.0),
    (4, {"capacity": 16}, .9)])
def test_experts_that_return_their_input(e, settings, kept, rng):
    config = config_of(e, expert_activation="relu", **settings)
    params = identity_experts(8, config)
    params["w_router"] = .5 * rng.standard_normal((8, e))
    x = rng.standard_normal((4, 16, 8))
    out, cache = snp.switch_layer.forward(params, x, config, rng=rng)
    served = (out.y != 0).any(axis=2)
    assert kept <= served.mean() and (served.all() == (e == 1))
    np.testing.assert_allclose(out.y[served], x[served], rtol=1e-12)
    _, grads = snp.switch_layer.backward(2 * (out.y - x) * served[..., None], cache)
    np.testing.assert_allclose(grads["w_out"], 0, atol=1e-12)       # of the squared error


@pytest.mark.parametrize("e", [1, 4])
def test_a_gate_that_deals_out_tokens_in_turn(e, rng):
    config = like("hf_mixtral", e, top_k=1, expert_gated=False, expert_activation="relu",
                  capacity_factor=2.0)
    turn = np.arange(64) % e
    x = rng.standard_normal((4, 16, 8))
    out, _ = snp.switch_layer.forward(identity_experts(8, config, np.arange(e) + 1), x, config,
                                      plan=plans.from_choices(turn[:, None], config))
    np.testing.assert_allclose(out.y, x * (turn + 1).reshape(4, 16, 1), rtol=1e-12)
