"""huggingface/transformers: tests of switch_transformers' router, Mixtral's loss, NLLB's router."""

import numpy as np
import pytest
from peers.layers import facts, like, on_logits, random_layer, weights

import switch_np as snp
from switch_np import Noise, plans
from switch_np.switch import balance_loss

PROBS = np.array([[.35490513, .60419905], [.4275843, .23061597], [.32985854, .43953657],
                  [.25099766, .27730572], [.7678207, .71474564]])
LOGITS = np.array([
    [-4.2124424, 3.891939, -3.6481273, 1.8849981], [.32625437, 2.918651, .84758997, -4.556842],
    [-3.32062, 4.6977115, -.15439987, .44086337], [3.4467149, 4.3436565, -4.7224274, -4.264637],
    [-2.224406, -2.5318158, -1.3832569, 1.1891162], [-2.320062, -.44705987, 4.289819, -.00662684],
    [.99470854, -.6992364, .25503993, 4.2952085], [3.5937333, -3.2408535, -4.298278, 4.426601],
    [.7669008, 2.6588762, 2.4505413, 4.6051874], [.23330331, -3.0845237, .6262374, -2.9865491],
    [.7595146, -2.1099675, -4.155346, -2.8326452], [2.3771453, 1.004138, -3.1781673, .7581556]])
TOKENS = np.array([.6433916, .18188512, .02240455, .563781, .5526401, .0958724, .34253013,
                   .03644359, .08744538, .7909105, .35205448, .53364205, .02900076, .4168595,
                   .5802449, .91486526, .27414513, .14991808, .9383501, .5209162, .51207185,
                   .90618336, .7309413, .95533276]).reshape(2, 3, 4)
ROUTER = np.array([[.02008116, .00620062], [-.00811031, -.00031623], [-.03542127, .02703803],
                   [.02335377, -.02971946]])


@pytest.mark.parametrize("preset", ["paper", "hf_switch", "flaxformer", "mesh_tf"])
def test_balance_loss_of_given_probabilities_and_choices(preset):
    plan = plans.from_choices(np.array([[0], [1], [1], [0], [0]]), like(preset, 2, capacity=5))
    assert float(balance_loss.forward(PROBS, plan)[0]) == pytest.approx(.8741045, abs=5e-6)


@pytest.mark.parametrize("preset", ["paper", "hf_switch", "flaxformer"])
def test_z_loss_of_given_logits(preset):
    out = on_logits(LOGITS.reshape(2, 6, 4), like(preset, 4))
    assert float(out.z_loss) == pytest.approx(13.786719, abs=5e-6)


def test_the_router_of_given_weights():
    config = like("hf_switch", 2, capacity=4)
    params = random_layer(config, 4) | {"w_router": ROUTER}
    out, _ = snp.switch_layer.forward(params, TOKENS, config)
    assert float(out.balance_loss) == pytest.approx(1.000308, abs=5e-6)
    assert float(out.z_loss) == pytest.approx(.4789799, abs=5e-6)


def test_never_more_than_the_capacity(rng):
    config = like("hf_switch", 2, capacity=4)
    x = np.tile(rng.random((1, 128, 12)), (4, 1, 1))
    plan = snp.switch_layer.forward(random_layer(config), x, config)[0].plan
    assert plan.kept.sum() <= 4 * 2 * 4 and plan.kept_load.max() == 4


def test_mixtrals_loss_is_near_2_and_blind_to_masked_padding(rng):
    config = like("hf_mixtral", 8)
    params = random_layer(config, 32, 64) | {"w_router": .02 * rng.standard_normal((32, 8))}
    x = rng.standard_normal((13, 7, 32))
    longer = np.concatenate([np.tile(rng.standard_normal(32), (13, 200, 1)), x], axis=1)
    mask = np.tile(np.arange(207) < 200, (13, 1))
    loss, masked, unmasked = (
        float(snp.switch_layer.forward(params, tokens, config, padding=padding)[0].balance_loss)
        for tokens, padding in ((x, None), (longer, mask), (longer, None)))
    assert loss == pytest.approx(2, rel=1e-2) and masked == pytest.approx(loss, rel=1e-4)
    assert unmasked != pytest.approx(loss, abs=1e-7)


NLLB = facts("nllb")
RANDOM = {"second_policy": "random"}


def routed(logits, noise=None, padding=None, **settings):
    config = like("hf_nllb_moe", 4, **{"expert_biases": False} | settings)
    return on_logits(logits, config, noise=noise, padding=padding)


@pytest.mark.parametrize("policy", ["random", "sampling", "all"])
def test_nllbs_policies_of_the_second_expert(policy):
    """The peer adds its Gumbel noise in place: the "all" that follows sees noisy logits."""
    logits, gumbel = NLLB["logits"], NLLB["gumbel"]
    out = {"random": lambda: routed(logits, Noise(policy=NLLB["uniform"][:, None]), **RANDOM),
           "sampling": lambda: routed(logits, Noise(second=gumbel), second_choice="sampled"),
           "all": lambda: routed(logits + gumbel)}[policy]()
    np.testing.assert_allclose(weights(out)[:16], NLLB[policy], rtol=1e-4, atol=1e-4)
    if policy != "random":
        np.testing.assert_array_equal(out.plan.expert[:16, 0], NLLB[f"top1_{policy}"])


def test_nllbs_batch_prioritised_routing():
    plan = routed(NLLB["logits"], Noise(policy=np.zeros((40, 1))), priority="batch", capacity=4,
                  eval_capacity_fraction=None, **RANDOM).plan
    assert plan.kept[-1, 0] and plan.expert[-1, 0] == 0


def test_nllbs_routing_of_two_real_tokens():
    """Outputs are multiplied by 1 less the rate of token dropout, in evaluation; a mean of 20."""
    logits = np.zeros((40, 4))
    logits[[0, 20]] = NLLB["real_logits"]
    out = routed(logits, padding=np.arange(40) % 20 > 0, gate_scale=.8)
    y = np.einsum("te,etd->td", weights(out)[[0, 20]], NLLB["expert_outputs"]) / 20
    np.testing.assert_allclose(y, NLLB["mean"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training, want", [(False, 40), (True, 20)])
def test_nllbs_capacity(training, want):
    """All tokens fit in evaluation; in training without an expert_capacity 2 ceil(T / E)."""
    assert like("hf_nllb_moe", 4).expert_capacity(40, training) == want
