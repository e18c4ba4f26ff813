"""A kernel's own choices: right, wrong, replayed, in any order, refused where they do not fit."""

import numpy as np
import pytest
from oracle.problems import all_of, judged, problem, with_drops

from switch_np import SwitchConfig, oracle

ASKED, REF = with_drops()
PLAN = REF.plan


def test_wrong_experts_fail_though_the_numbers_follow_them():
    wrong = PLAN.expert.copy()
    wrong[7] = sorted((wrong[7] + 1) % 3, key=lambda e: -REF.scores[7, e])
    assert len(set(wrong[7])) == 2
    report = judged(REF, all_of(oracle.reference(**ASKED, plan=wrong)) | {"expert": wrong})
    assert report.verdict == "fail" and "1 wrong, such as token 7" in str(report)
    assert all(tensor.ok for tensor in report.tensors.values())


def test_wrong_drops_fail_and_name_the_token():
    kept = PLAN.kept.copy()
    token, choice = np.argwhere(kept)[4]
    kept[token, choice] = False
    report = oracle.compare(REF, expert=PLAN.expert, kept=kept)
    assert report.verdict == "fail"
    assert f"token {token}, choice {choice} is dropped, want kept" in report.routing_errors[0]
    slot = PLAN.slot.copy()
    slot[tuple(np.argwhere(kept)[0])] = 99
    assert "slot 99" in oracle.compare(REF, expert=PLAN.expert, slot=slot).routing_errors[0]


def test_experts_may_come_in_any_order():
    turned = {"expert": PLAN.expert[:, ::-1], "kept": PLAN.kept[:, ::-1]}
    assert judged(REF, all_of(REF) | turned).ok
    report = oracle.compare(REF, expert=PLAN.expert[:, :1])
    assert report.routing_errors == ("the kernel made 1 choice per token, want 2",)


@pytest.mark.parametrize("top_k", [1, 2])
def test_whoever_follows_a_replayed_plan_is_right(top_k):
    asked, natural = problem(SwitchConfig(num_experts=4, top_k=top_k, capacity_factor=1.0), 24, 4)
    drifted = (natural.plan.expert + 1) % 4                   # not the best experts of any token
    ref = oracle.reference(**asked, plan={"expert": drifted})
    assert oracle.compare(ref, y=ref.y, grads=ref.grads, expert=drifted, kept=ref.plan.kept).ok
    other = drifted.copy()
    other[5] = (other[5] + 1) % 4
    report = oracle.compare(ref, y=ref.y, expert=other)
    assert report.verdict == "fail" and "wrong, such as token 5: got" in str(report)


@pytest.mark.parametrize("given, message", [
    ({"plan": PLAN, "expert": PLAN.expert}, "plan must come without expert, kept and slot"),
    ({"plan": {"expert": PLAN.expert, "keep": PLAN.kept}}, "keys .'expert', 'keep'."),
    ({"plan": {"kept": PLAN.kept}}, "keys .'kept'."),
    ({"kept": PLAN.kept}, "expert must be given"),
    ({"expert": PLAN.expert, "kept": np.c_[PLAN.kept, PLAN.kept]}, "kept must hold 2 choices"),
    ({"expert": PLAN.expert, "slot": PLAN.slot[:, :1]}, "slot must hold 2 choices"),
    ({"expert": PLAN.expert.T}, "expert must have a row for each of 32 tokens"),
])
def test_decisions_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        oracle.compare(REF, y=REF.y, **given)


def test_a_near_tie_of_groups_counts_the_rounding_of_the_group_that_lost():
    config = SwitchConfig.like("hf_deepseek_v3", num_experts=4, top_k=2, select_groups=2,
                               select_groups_kept=1)
    asked = oracle.draw(config, 1, 4, 3)
    params = asked["params"] | {"w_router": np.diag([-24, -16, -8.7, 6.47]),
                                "select_bias": np.array([6.03125, 5.90625, 5.1875, 5.75])}
    ref = oracle.reference(np.ones((1, 4)), params, config)
    assert sorted(ref.plan.expert[0]) == [0, 1] and 6e-4 < ref.margin[0] < 7e-4
    assert oracle.compare(ref, expert=[[3, 2]], precision="bfloat16").ok    # 0.9985 may round to 1
    assert not oracle.compare(ref, expert=[[3, 2]], precision="float32").ok
