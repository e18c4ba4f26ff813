"""Kernels that choose other experts from the same scores are recognised, told or not."""

import numpy as np
import pytest
from oracle.problems import all_of, judged, problem

from switch_np import SwitchConfig, oracle
from switch_np.operations.precision import round_to

GROUPS = {"num_experts": 8, "top_k": 2, "select_groups": 4, "select_groups_kept": 2}
CONFIG = SwitchConfig.like("hf_deepseek_v3", **GROUPS)
T = 32


def best(scores, k=2):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def in_open_groups(scores, join=np.sum, closed=-np.inf):
    """Return scores with those of all but the two best groups replaced; `join` scores a group."""
    open_TG = np.zeros((T, 4), bool)
    np.put_along_axis(open_TG, best(join(scores.reshape(T, 4, 2), axis=2)), True, axis=1)
    return np.where(np.repeat(open_TG, 2, axis=1), scores, closed)


@pytest.mark.parametrize("bias, choose, words", [
    (lambda b: b - 1.5, lambda s, b: in_open_groups(s + b, closed=0.0),
     "closed groups of experts score 0"),
    (lambda b: b, lambda s, b: s + b, "experts are chosen without regard to groups"),
    (lambda b: b, lambda s, b: in_open_groups(s + b, np.max),
     ("a group's score is its best", "experts are chosen without regard")),    # the same here
    (lambda b: 2 * b, lambda s, b: in_open_groups(s), "the selection bias is left out"),
    (lambda b: 4.5 + b, lambda s, b: in_open_groups(s + round_to(b, "bfloat16")),
     "the selection bias is rounded to bfloat16"),
])
def test_another_choice_is_recognised(bias, choose, words):
    asked, _ = problem(CONFIG, T, precision="float32")
    moved = bias(asked["params"]["select_bias"])
    asked = asked | {"params": asked["params"] | {"select_bias": moved}}
    ref = oracle.reference(**asked)
    expert = best(choose(ref.probs, moved))
    assert (np.sort(expert) != np.sort(ref.plan.expert)).any()
    got = all_of(oracle.reference(**asked, plan=expert))
    for told in ({}, {"expert": expert}):
        assert judged(ref, got | told).diagnosis[0].startswith(words)


def test_a_choice_too_few_is_told_and_does_not_raise():
    _, ref = problem(CONFIG, T, precision="float32")
    report = oracle.compare(ref, y=ref.y, expert=ref.plan.expert[:, :1])
    assert report.verdict == "fail"
    assert report.diagnosis[0] == "the kernel made 1 choice per token, want 2"


def test_the_plain_choice_is_counted_in_a_replayed_plan():
    """The loss of `plain_over_k` counts the best scores, also if the experts are handed in."""
    asked, ref = problem(SwitchConfig.like("hf_deepseek_v3", **GROUPS,
                                           balance_counts="plain_over_k"), T)
    again = oracle.reference(**asked, plan={"expert": ref.plan.expert})
    assert (again.plan.balance_count == ref.plan.balance_count).all()
    assert np.isclose(again.balance_loss, ref.balance_loss, rtol=1e-12)


@pytest.mark.parametrize("told", [True, False])
def test_experts_that_are_never_candidates_are_named(told):
    asked, ref = problem(SwitchConfig(num_experts=8, top_k=2, capacity_factor=None), T)
    got = oracle.reference(**asked, plan=best(ref.probs[:, :4]))
    decided = {"expert": got.plan.expert} if told else {}
    assert judged(ref, all_of(got) | decided).diagnosis[0] == "only experts 0 to 3 are ever chosen"


@pytest.mark.parametrize("told", [True, False])
def test_second_choices_that_are_served_first_are_named(told):
    """Slots given here token by token, second choices first."""
    asked, ref = problem(SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.2), T)
    used, kept = np.zeros(4, int), np.zeros((T, 2), bool)
    for k, t in np.ndindex(2, T):
        e = ref.plan.expert[t, 1 - k]
        kept[t, 1 - k] = used[e] < ref.plan.capacity
        used[e] += 1
    decided = {"expert": ref.plan.expert, "kept": kept}
    got = oracle.reference(**asked, plan=decided)
    report = judged(ref, all_of(got) | (decided if told else {}))
    assert report.diagnosis[0] == "second choices take slots before first ones"
