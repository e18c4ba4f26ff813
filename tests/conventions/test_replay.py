"""Decisions taken elsewhere, replayed."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from conventions.random_layers import check_layer, problem, random_config
from judges import conventions_loops as loops

import switch_np as snp
from switch_np import plans
from switch_np.conventions import serve
from switch_np.conventions.table import Conventions
from switch_np.switch import layer as papers_layer

ARRAYS = ("expert", "slot", "kept", "token", "choice", "row", "start", "group", "load",
          "balance_count", "balance_tokens")
HUGE = [2**61, 2**62, sys.maxsize, 2**70]


@pytest.mark.parametrize("seed", range(8))
def test_own_decisions_come_back(seed):
    """A plan taken apart into choices, kept and slots, and made again: the same plan."""
    rng = np.random.default_rng(seed)
    for _ in range(30):
        config = random_config(rng, 0.7)
        conventions = config.conventions
        if conventions.counts_plain or conventions.second_policy != "all":
            continue                                       # these need scores, or leave no trace
        params, x, padding, noise, training = problem(rng, config)
        own = snp.switch_layer.forward(params, x, config, padding=padding, noise=noise,
                                       training=training)[0].plan
        found = plans.from_choices(own.expert, config, kept=own.kept, slot=own.slot,
                                   num_groups=config.groups, padding=padding, training=training)
        for name in ARRAYS:
            assert np.array_equal(getattr(found, name), getattr(own, name)), (name, config)
        assert (found.capacity, found.layout) == (own.capacity, own.layout)


def test_slots_are_made_if_none_are_given():
    config = snp.SwitchConfig(num_experts=3, top_k=2, capacity=2)
    expert = np.array([[0, 1], [1, 0], [0, 2], [0, 1]])
    plan = plans.from_choices(expert, config)
    assert plan.slot.tolist() == [[0, 1], [0, -1], [1, 0], [-1, -1]]
    same = plans.fill(expert, 3, capacity=2)
    assert all(np.array_equal(getattr(plan, name), getattr(same, name)) for name in ARRAYS)
    kept = np.array([[False, True], [True, True], [False, True], [True, False]])
    assert plans.from_choices(expert, config, kept=kept).slot.tolist() == [
        [-1, 1], [0, 1], [-1, 0], [0, -1]]


def test_the_worst_choices_have_exact_gradients(monkeypatch):
    """Experts that score worst, replayed; f is counted from them, gates come from all scores."""
    for config in (snp.SwitchConfig(num_experts=4, top_k=2, capacity=3),
                   snp.SwitchConfig.like("deepspeed_top2", num_experts=4, capacity=3,
                                         second_choice="largest")):
        rng = np.random.default_rng(0)
        params, x, _, noise, _ = problem(rng, config, group_size=5)
        probs = snp.switch_layer.forward(params, x, config, noise=noise)[0].probs
        worst = np.argsort(probs, axis=1)[:, :2]
        plan = plans.from_choices(worst, config)
        out, _ = snp.switch_layer.forward(params, x, config, plan=plan, noise=noise)
        assert (out.plan.balance_count == np.bincount(worst[:, 0], minlength=4)).all()
        if config.conventions == Conventions():
            assert np.array_equal(out.gates, np.take_along_axis(probs, worst, axis=1))
        made = worst, config
        monkeypatch.setattr(papers_layer, "decide", lambda _, __, ___, padding_T, ____, made=made:
                            plans.from_choices(*made, padding=padding_T))
        monkeypatch.setattr(serve, "decide", lambda *_, made=made, padding_T=None, **__:
                            plans.from_choices(*made, padding=padding_T))
        check_layer(np.random.default_rng(0), replace(config, groups=1), group_size=5)
        monkeypatch.undo()


@pytest.mark.parametrize("change, message", [
    ({"expert": [[0], [1]]}, r"expert must have shape \(T, 2\)"),
    ({"expert": [[0.0, 1.0]]}, "expert must be a NumPy array of whole numbers"),
    ({"expert": [[0, 3]] * 4}, r"expert must lie in 0 .. 2, got 3 at \(0, 1\)"),
    ({"expert": [[0, 1], [1, 1], [0, 1], [0, 1]]}, r"an expert once per token, got \[1, 1\]"),
    ({"num_groups": 3}, "num_groups must divide the number of tokens, 4, got 3"),
    ({"padding": [0, 1, 0, 0]}, "padding must be a NumPy array of bool"),
    ({"kept": [[True, True]]}, r"kept must have shape \(4, 2\)"),
    ({"kept": [[True, True]] * 4}, r"slot must lie in 0 .. 1 for kept choices"),
    ({"padding": [True] * 4, "kept": [[True, False]] * 4}, "kept must be False for padding"),
    ({"slot": [[0, 0]] * 4}, "slot must differ within the buffer"),
    ({"slot": [[2, 0], [-1, -1], [-1, -1], [-1, -1]]}, r"got \[2, 0\] for token 0"),
    ({"slot": [[-1, 0]] + [[-1, -1]] * 3, "kept": [[True, True]] + [[False, False]] * 3},
     r"slot must lie in 0 .. 1 for kept choices, the config's capacity, got \[-1, 0\]")])
def test_contradictions_are_refused(change, message):
    config = snp.SwitchConfig(num_experts=3, top_k=2, capacity=2)
    arguments = {"expert": [[0, 1]] * 4} | change
    arguments = {name: value if name == "num_groups" else np.array(value)
                 for name, value in arguments.items()}
    with pytest.raises((TypeError, ValueError), match=message):
        plans.from_choices(arguments.pop("expert"), config, **arguments)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])
def test_ids_and_slots_of_any_whole_numbers(dtype):
    """An id of 8 bits times the groups takes more; -1, where nothing counts, may be unsigned."""
    config = snp.SwitchConfig(num_experts=100, top_k=2, capacity=1)
    expert = np.array([[99, 7], [98, 7], [99, 0], [-1, -1]])
    slot = np.array([[0, 0], [0, -1], [0, 0], [-1, -1]])
    options = {"num_groups": 2, "padding": np.arange(4) > 2}
    want = plans.from_choices(expert, config, slot=slot, kept=slot >= 0, **options)
    found = plans.from_choices(expert.astype(dtype), config, slot=slot.astype(dtype),
                               kept=slot >= 0, **options)
    for name in ARRAYS:
        assert np.array_equal(getattr(found, name), getattr(want, name)), name
        assert getattr(found, name).dtype == getattr(want, name).dtype
    assert want.kept.sum() == 5


@pytest.mark.parametrize("capacity", HUGE)
@pytest.mark.parametrize("name", ["paper", "deepspeed_topk", "flaxformer", "tutel", "labml"])
def test_a_capacity_that_stands_for_no_limit(name, capacity):
    """Eight experts times such a capacity exceed 64 bits; one of 24, for 12 tokens, gives the same.
    """
    config = snp.SwitchConfig.like(name, num_experts=8, top_k=2, capacity=capacity)
    for one in (config, replace(config, conventions=replace(config.conventions, priority="gate"))):
        params, x, padding, noise, _ = problem(np.random.default_rng(0), one, group_size=12)
        out, _ = snp.switch_layer.forward(params, x, one, padding=padding, noise=noise)
        want = loops.forward(params, x, one, padding_T=padding, noise=noise)
        np.testing.assert_allclose(out.y, want.y, rtol=1e-11, atol=1e-13)
        assert np.array_equal(out.plan.slot, want.slot) and out.plan.capacity == capacity
        for kept, slot in ((None, None), (want.kept, None), (None, want.slot),
                           (want.kept, want.slot)):
            given = {"kept": kept, "slot": slot, "padding": padding}
            found = plans.from_choices(out.plan.expert, one, **given)
            roomy = plans.from_choices(out.plan.expert, replace(one, capacity=24), **given)
            for array in ARRAYS:
                assert np.array_equal(getattr(found, array), getattr(roomy, array)), array
        margins = [plans.margins(out.probs, plan, one, logits_TE=out.logits, padding_T=padding,
                                 noise=noise) for plan in (found, roomy)]
        assert all(map(np.array_equal, *margins))


def test_slots_beyond_all_choices_keep_their_order():
    config = snp.SwitchConfig(num_experts=3, capacity=2**62)
    slot = np.array([[2**62 - 1], [0], [2**40], [2**62 - 2]])
    plan = plans.from_choices(np.array([[2], [2], [0], [2]]), config, slot=slot)
    assert plan.token.tolist() == [2, 1, 3, 0] and plan.row.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("capacity", HUGE)
@pytest.mark.parametrize("name", ["paper", "deepspeed_topk"])
def test_buffers_that_no_memory_holds_are_refused(name, capacity):
    config = snp.SwitchConfig.like(name, num_experts=8, top_k=2, capacity=capacity,
                                   layout="buffers")
    params, x, _, noise, _ = problem(np.random.default_rng(0), config, group_size=12)
    with pytest.raises(ValueError, match="capacity must be less than 137438953472 with "
                                         f"layout='buffers', .* got {capacity}; layout='packed'"):
        snp.switch_layer.forward(params, x, config, noise=noise)
