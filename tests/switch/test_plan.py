"""The plan: counts, rows and slots agree, nothing can be written to it, and it is replayed."""

import numpy as np
import pytest
from support import layer_problem, random_config

import switch_np as snp
from switch_np.plans import fill


@pytest.mark.parametrize("seed", range(20))
def test_plan_counts(seed):
    rng = np.random.default_rng(seed)
    config, (b, s) = random_config(rng)
    params, x, padding, _ = layer_problem(seed, config, shape=(b, s), padded=0.2, training=False)
    plan = snp.switch_layer.forward(params, x, config, padding=padding)[0].plan
    real = int((~padding).sum())
    assert plan.balance_count.sum() == plan.balance_tokens.sum() == real
    assert plan.load.sum() == real * config.top_k
    np.testing.assert_array_equal(plan.kept_load, np.minimum(plan.load, plan.capacity))
    assert plan.kept.sum() == len(plan.token) == plan.kept_load.sum()
    assert not plan.kept[padding.ravel()].any()
    np.testing.assert_array_equal(plan.slot >= 0, plan.kept)
    assert plan.slot.max(initial=-1) < max(plan.capacity, 0) or not plan.kept.any()
    owner = plan.expert[plan.token, plan.choice]
    assert (np.diff(owner) >= 0).all() and (np.diff(plan.row) > 0).all()
    assert ((plan.row >= plan.start[owner]) & (plan.row < plan.start[owner + 1])).all()
    if config.layout == "buffers":
        groups = plan.load.shape[0]
        assert plan.num_rows == config.num_experts * groups * plan.capacity
        slot = plan.slot[plan.token, plan.choice]
        np.testing.assert_array_equal(
            plan.row, (owner * groups + plan.group[plan.token]) * plan.capacity + slot)


def test_a_plan_is_read_only_and_leaves_the_caller_s_array_alone():
    expert = np.array([[0], [1], [0]])
    plan = fill(expert, 2, capacity=1)
    arrays = [value for value in vars(plan).values() if isinstance(value, np.ndarray)]
    for array in (*arrays, plan.kept_load, plan.row_of_choice, plan.choice_of_row,
                  plan.token_of_row):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    expert[:] = 1
    assert plan.expert[:, 0].tolist() == [0, 1, 0]


def test_a_plan_is_replayed():
    config = snp.SwitchConfig(num_experts=3, capacity_factor=1.0)
    params, x, _, _ = layer_problem(0, config, training=False)
    plan = snp.switch_layer.forward(params, x, config)[0].plan
    other = {**params, "w_router": -params["w_router"]}
    out, _ = snp.switch_layer.forward(other, x, config, plan=plan)
    assert out.plan is plan
    np.testing.assert_array_equal(out.gates, np.take_along_axis(out.probs, plan.expert, 1))


def test_ids_of_eight_bits_fill_many_groups():
    """An id times the groups takes more bits than the ids have."""
    expert = np.arange(99)[:, None]
    for kind in (np.int8, np.uint8):
        plan = fill(expert.astype(kind), 100, capacity=2, num_groups=33)
        assert plan.expert.dtype == int and plan.load.sum() == plan.kept.sum() == 99


def test_a_token_goes_on_until_an_expert_has_a_slot():
    scores = np.array([[.6, .3, .1], [.5, .3, .2], [.5, .4, .1], [.4, .1, .5], [.8, .1, .1]])
    config = snp.SwitchConfig(num_experts=3, tries="all", capacity=2)
    plan = snp.plans.decide(scores, config)
    assert plan.expert[:, 0].tolist() == [0, 0, 1, 2, 1] and plan.kept.all()
    assert plan.load.tolist() == plan.balance_count.tolist() == [[4, 0, 1]]
    assert plan.slot[:, 0].tolist() == [0, 1, 0, 0, 1]
    full = snp.plans.decide(scores, snp.SwitchConfig(num_experts=3, tries=2, capacity=1))
    assert full.expert[:, 0].tolist() == [0, 1, 0, 2, 0]
    assert full.kept[:, 0].tolist() == [True, True, False, True, False]
    found = snp.plans.margins(scores, plan, config)
    assert found.contested.tolist() == [True, True, True, False, True]
    np.testing.assert_allclose(found.choice, [.3, .2, .1, .1, .0], atol=1e-12)


@pytest.mark.parametrize("options, message", [
    ({"top_k": 2}, "top_k must be 1 where tokens ask several experts for a slot, tries=3, got 2"),
    ({"sample": True}, "sample must be False where"),
    ({"tries": 5}, "tries must be at most num_experts, 4, got 5"),
    ({"tries": "some"}, "tries must be one of 'all'")])
def test_tries_that_fit_nothing_else_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        snp.SwitchConfig(**{"num_experts": 4, "tries": 3, **options})
