"""google-research/vmoe: moe_test and nn/routing_test: dispatchers, capacities, auxiliary losses."""

import numpy as np
import pytest
from peers.layers import like

import switch_np as snp
from switch_np import Noise, plans
from switch_np.conventions import serve, variation_losses
from switch_np.switch import balance_loss, combine, dispatch

GATES = np.array([[.4, 0, .2], [.5, .1, .4], [.3, .2, .6]])
EXPERTS = {"chooser": "experts", "balance_counts": "none", "top_k": 1}


def plan_of(**settings):
    config = like("vmoe", 3, capacity=2, **settings)
    return serve.decide(GATES, np.log(np.maximum(GATES, 1e-30)), config)


def combined(plan):
    """Return the weights (T, E, C) of every slot."""
    found, (t, k) = np.zeros((3, 3, plan.capacity)), np.nonzero(plan.kept)
    e = plan.expert[t, k]
    found[t, e, plan.slot[t, k]] = GATES[t, e]
    return found


@pytest.mark.parametrize("priority, want, slots", [
    ("choice", [[[.4, 0], [0, 0], [0, .2]], [[0, .5], [0, 0], [0, 0]], [[0, 0], [0, 0], [.6, 0]]],
     [[(0, 0), (2, 1)], [(0, 1), (2, 2)], [(2, 0), (0, 2)]]),
    ("batch", [[[0, .4], [0, 0], [0, 0]], [[.5, 0], [0, 0], [0, .4]], [[0, 0], [0, 0], [.6, 0]]],
     [[(0, 1), (2, 2)], [(0, 0), (2, 1)], [(2, 0), (0, 2)]])])
def test_tokens_choose(priority, want, slots):
    """The peer numbers on past the capacity."""
    plan, slots = plan_of(priority=priority), np.array(slots)
    np.testing.assert_allclose(combined(plan), want)
    np.testing.assert_array_equal(plan.expert, slots[..., 0])
    np.testing.assert_array_equal(plan.slot, np.where(slots[..., 1] < 2, slots[..., 1], -1))


def test_experts_choose():
    plan = plan_of(**EXPERTS)
    np.testing.assert_allclose(combined(plan), [
        [[0, .4], [0, 0], [0, 0]], [[.5, 0], [0, .1], [0, .4]], [[0, 0], [.2, 0], [.6, 0]]])
    each = plan.kept.sum(axis=1)
    assert (each.min(), each.max()) == (1, 3)
    assert [(each >= n).mean() for n in (1, 2, 3)] == pytest.approx([1, 2 / 3, 1 / 3])


@pytest.mark.parametrize("tokens, e, settings, want", [
    (32, 32, {"top_k": 2, "capacity_factor": 1.0}, 4),      # two each, up to the next multiple of 4
    (128, 32, {"capacity_factor": 2.0, **EXPERTS}, 8),
    (32, 4, {"top_k": 2, "capacity_factor": 1.05}, 20),     # 16.8, up to 17, up to 20
    (10, 4, {"top_k": 1, "capacity_factor": 1.0, "capacity_rounding": "half_even",
             "capacity_multiple_of": 1}, 2)])               # 2.5, as Python rounds
def test_capacities(tokens, e, settings, want):
    assert like("vmoe", e, **settings).expert_capacity(tokens, True) == want


def test_a_factor_below_0_is_refused():
    with pytest.raises(ValueError, match="capacity_factor must be finite, at least 0"):
        like("vmoe", 32, capacity_factor=-1.0)


@pytest.mark.parametrize("e, c, indices, rows", [
    (2, 2, [[[1, 0], [9, 9]], [[0, 0], [9, 9]], [[1, 1], [0, 1]], [[0, 0], [1, 1]],
            [[0, 1], [9, 9]], [[9, 9], [1, 0]]], [2, 3, 4, 5, 1, 3, 6, 4]),
    (4, 1, [[[1, 0], [9, 9]], [[0, 0], [9, 9]], [[2, 0], [3, 0]], [[0, 0], [2, 0]],
            [[3, 0], [9, 9]], [[9, 9], [1, 0]]], [2, 4, 1, 6, 3, 4, 3, 5])])
def test_dispatch_and_combine_by_indices(e, c, indices, rows):
    """(expert, slot) of each choice; the peer's 9s, which mean nothing, are dropped choices."""
    expert, slot = np.moveaxis(np.array(indices), -1, 0)
    kept = expert < e
    config = like("vmoe", e, capacity=c, layout="buffers")
    plan = plans.from_choices(np.where(kept, expert, (expert[:, ::-1] + 1) % e), config, kept=kept,
                              slot=slot, num_groups=2)
    sent = dispatch.forward(np.repeat(np.arange(1.0, 7)[:, None], 4, axis=1), plan)
    np.testing.assert_array_equal(sent[:, 0], rows)
    y, _ = combine.forward(sent, np.tile([.7, .3], (6, 1)), plan)
    np.testing.assert_allclose(y, np.tile([[.7], [1.4], [3], [4], [3.5], [1.8]], 4))


SCORES = np.array([[.5, .4, .1], [.3, .3, .4], [.1, .2, .7], [.8, .2, 0]])


def test_gshard_loss():
    plan = serve.decide(SCORES, np.log(SCORES + 1e-30), like("vmoe", 3, top_k=1))
    assert float(balance_loss.forward(SCORES, plan)[0]) == pytest.approx(1.0875, abs=1e-6)


def test_importance_loss():
    assert float(variation_losses.importance(SCORES)[0]) == pytest.approx(.03874999, abs=1e-7)


def test_load_loss():
    clean = np.array([[.9, .06, .04], [.7, .18, .12], [.85, .05, .1]])
    noise = np.array([[-.037, .026, -.018], [-.074, .045, -.015], [-.067, -.059, .073]])
    loss, _ = variation_losses.load(clean, clean + noise, .1, 2)
    assert float(loss) == pytest.approx(.48573864536489236, abs=1e-6)


@pytest.mark.parametrize("settings", [{}, EXPERTS])
def test_noise_moves_the_gates_in_training_alone(settings):
    """Its deviation is 1 over the number of experts. The importance loss is of clean scores."""
    config = like("vmoe", 4, **settings)
    params = {n: np.zeros(s) for n, s in snp.switch_layer.shapes(4, 2, config).items()}
    params["w_router"], x = np.eye(4), np.arange(20.0).reshape(5, 4) / 10
    calm, once, again, given = (
        snp.switch_layer.forward(params, x, config, training=training, noise=noise,
                                 rng=np.random.default_rng(seed))[0]
        for seed, training, noise in ((0, False, None), (0, True, None), (1, True, None),
                                      (0, True, Noise(logits=np.zeros((5, 4))))))
    assert abs(once.probs - again.probs).sum() > .01 and (calm.probs == given.probs).all()
    drawn = np.random.default_rng(0).normal(size=(5, 4)) / 4
    np.testing.assert_allclose(once.logits - calm.logits, drawn, atol=1e-15)
