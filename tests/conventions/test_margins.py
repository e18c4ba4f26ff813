"""How close decisions were: nothing changes within a margin, and something does beyond it."""

import numpy as np
import pytest
from conventions.test_golden import spread

import switch_np as snp
from switch_np import plans
from switch_np.conventions import serve
from switch_np.conventions.table import Conventions

GATED = [Conventions(priority="gate"), Conventions(priority="logit_or_zero"),
         Conventions(priority="weight", renorm="pre"), Conventions(priority="weight"),
         Conventions(priority="batch"), Conventions(chooser="experts"),
         Conventions(priority="gate", select_groups=2), Conventions(second_policy="threshold"),
         *(Conventions(select_bias=True, select_groups=groups, select_groups_kept=groups - 1,
                       select_group_best=best) for groups, best in ((3, 2), (3, 1), (2, 3))),
         Conventions(priority="batch", second_policy="threshold", second_compare="score")]


def test_margins_are_the_distance_to_another_choice():
    scores = np.array([[0.5, 0.3, 0.2], [0.4, 0.39, 0.21], [0.1, 0.2, 0.7]])
    plan = plans.decide(scores, snp.SwitchConfig(num_experts=3, top_k=2, capacity=2))
    found = plans.margins(scores, plan)
    np.testing.assert_allclose(found.choice, [0.1, 0.01, 0.1])
    assert found.contested.tolist() == [True, True, True]     # expert 1 is asked for three times
    one = plans.decide(np.ones((2, 1)), snp.SwitchConfig(num_experts=1, capacity=2))
    assert np.isinf(plans.margins(np.ones((2, 1)), one).choice).all()


def test_without_a_limit_nothing_is_contested_and_nothing_cut():
    scores, bias = np.array([[0.6, 0.4], [0.7, 0.3]]), np.array([0.0, 1.0])
    config = snp.SwitchConfig(num_experts=2, capacity_factor=0, eval_capacity_factor=None,
                              conventions=Conventions(select_bias=True))
    plan = serve.decide(scores, scores, config, bias_E=bias)
    assert plan.expert.tolist() == [[1], [1]]              # not where the scores are largest
    assert not plans.margins(scores, plan, config, bias_E=bias).contested.any()
    gated = snp.SwitchConfig(num_experts=2, capacity_factor=0, eval_capacity_factor=1,
                             conventions=Conventions(priority="gate"))
    plan = serve.decide(scores, scores, gated)
    assert np.isfinite(plans.margins(scores, plan, gated).cut).any()
    assert not np.isfinite(plans.margins(scores, plan, gated, training=True).cut).any()


@pytest.mark.parametrize("conventions", GATED, ids=range(len(GATED)))
def test_no_decision_changes_within_the_margins(conventions):
    """Every score moved by less than half the least margin: the same plan, 200 times."""
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig(num_experts=6, top_k=2, capacity=3, groups=2, conventions=conventions)
    bias = rng.standard_normal(6) * 0.1 if conventions.select_bias else None
    for _ in range(10):
        probs = rng.random((16, 6))
        logits = np.log(probs / (1 - probs)) if conventions.priority == "logit_or_zero" else probs
        plan = serve.decide(probs, logits, config, num_groups=2, bias_E=bias)
        firm = plans.margins(probs, plan, config, logits_TE=logits, bias_E=bias)
        least = min(firm.choice.min(), firm.cut.min())
        assert least > 0
        scale = 0.25 if conventions.second_policy == "threshold" else 0.999       # gates move too
        for _ in range(20):
            move = rng.uniform(-1, 1, probs.shape) * 0.5 * scale * least
            again = serve.decide(probs + move, logits + move, config, num_groups=2, bias_E=bias)
            assert conventions.chooser == "experts" or (again.expert == plan.expert).all()
            assert (spread(again.kept, again.expert, 6)
                    == spread(plan.kept, plan.expert, 6)).all()


@pytest.mark.parametrize("conventions", [Conventions(priority="gate"),
                                         Conventions(chooser="experts"),
                                         Conventions(priority="batch"),
                                         Conventions(priority="logit_or_zero")],
                         ids=lambda conventions: f"{conventions.chooser}-{conventions.priority}")
def test_the_cut_is_just_where_the_margin_says(conventions):
    """One expert, one choice: a token that moves by a little more than its margin changes sides."""
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig(num_experts=1, capacity=4, conventions=conventions)
    score = rng.standard_normal((9, 1))
    plan = serve.decide(score, score, config)
    cut = plans.margins(score, plan, config, logits_TE=score).cut
    assert np.isfinite(cut).all() and 0 < plan.kept.sum() < 9
    for t in range(9):
        for factor, same in ((0.999, True), (1.001, False)):
            moved = score.copy()
            moved[t] += -cut[t] * factor if plan.kept[t] else cut[t] * factor
            assert (serve.decide(moved, moved, config).kept[t] == plan.kept[t]) == same


def test_zeros_of_other_tokens_make_a_cut():
    """DeepSpeed's queue with room left: negative logits lose to zeros, and 0 is the cut."""
    config = snp.SwitchConfig.like("deepspeed_topk_before_7986", num_experts=4, top_k=1, capacity=3)
    logits = np.array([[-1.0, -2, -3, -4], [2.0, 0, 0, 0], [-3, -.5, -3, -4], [0, 0, 1.5, 0]])
    plan = serve.decide(np.exp(logits), logits, config)
    assert plan.kept[:, 0].tolist() == [False, True, False, True]
    firm = plans.margins(np.exp(logits), plan, config, logits_TE=logits)
    assert firm.cut.tolist() == [1.0, 3.0, 0.5, 1.5]
