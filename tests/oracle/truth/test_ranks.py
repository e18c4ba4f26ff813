"""The truth of each rank: together it is one process's; what one sends is what another gets."""

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle
from switch_np.conventions.noise import draw_noise
from switch_np.oracle.truth import ranks

CONFIG = SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.8, jitter=0.1, expert_dropout=0.2)
N = 2


def problem(training=True, **options):
    asked = oracle.draw(CONFIG, 24, 6, 5, padding=3, **options)
    if training:
        asked |= {"noise": draw_noise(np.random.default_rng(1), CONFIG, 24, 6, 5), "training": True}
    return asked


@pytest.mark.parametrize("options", [{}, {"batch": 4}])
def test_put_together_they_are_the_reference(options):
    ref = oracle.reference(**problem(**options), ranks=N)
    assert len(ref.plan.load) == len(ref.ranks) == N and ref.plan.dropped_fraction > 0
    for name, want in ref.outputs().items():
        for rank, truth in enumerate(ref.ranks):
            found = ranks.whole(name, truth.got[name], rank, want, N)
            np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-13, err_msg=name)
    total = sum(truth.own["w_router"] for truth in ref.ranks)
    np.testing.assert_allclose(total, ref.grads["w_router"], rtol=1e-12)
    assert abs(ref.ranks[0].own["w_router"] - total).max() > 1e-2


def test_what_ranks_send_is_what_others_get_and_hand_back():
    ref = oracle.reference(**problem(), ranks=N)
    x_TD, plan = ref.problem.x, ref.plan
    for r, truth in enumerate(ref.ranks):
        mine = (plan.token // 12 == r)
        np.testing.assert_array_equal(truth.send, x_TD[plan.token[mine]])
        np.testing.assert_array_equal(truth.send_counts, plan.kept_load[r])
        np.testing.assert_array_equal(
            truth.receive_counts, plan.kept_load[:, 2 * r:2 * r + 2])
        by_expert = np.concatenate([ref.intermediates["experts.rows"][plan.start[e]:
                                                                      plan.start[e + 1]]
                                    for e in (2 * r, 2 * r + 1)])
        np.testing.assert_array_equal(truth.receive[truth.order], by_expert)
        out = ref.intermediates["experts.out"][plan.start[2 * r]:plan.start[2 * r + 2]]
        np.testing.assert_allclose(truth.outputs[truth.order], out, rtol=1e-12)
        ends = truth.receive_counts.sum(axis=1).cumsum()
        for s, other in enumerate(ref.ranks):                # from s, and back to s
            rows = slice(ends[s] - truth.receive_counts[s].sum(), ends[s])
            begin = other.send_counts[:2 * r].sum()
            there = slice(begin, begin + truth.receive_counts[s].sum())
            for ours, theirs in (("receive", "send"), ("outputs", "returned"),
                                 ("d_outputs", "d_returned"), ("d_receive", "d_send")):
                np.testing.assert_array_equal(getattr(truth, ours)[rows],
                                              getattr(other, theirs)[there], err_msg=ours)
    d_x = np.zeros_like(x_TD)
    for r, truth in enumerate(ref.ranks):
        np.add.at(d_x, plan.token[plan.token // 12 == r], truth.d_send)
    np.testing.assert_allclose(d_x, ref.terms["x"]["experts"], rtol=1e-11, atol=1e-13)


def test_a_replayed_plan_is_each_ranks_own():
    asked = problem(training=False)
    first = oracle.reference(**asked, ranks=N)
    expert = first.plan.expert.copy()
    expert[[0, 20]] = (expert[[0, 20]] + 1) % 4
    ref = oracle.reference(**asked, ranks=N, plan=expert)
    for name, want in ref.outputs().items():
        for rank, truth in enumerate(ref.ranks):
            np.testing.assert_allclose(ranks.whole(name, truth.got[name], rank, want, N), want,
                                       rtol=1e-12, atol=1e-13, err_msg=name)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="num_experts must be a multiple of the 3 ranks"):
        oracle.reference(**problem(), ranks=3)
    with pytest.raises(ValueError, match="ranks must be at least 1, got 0"):
        oracle.reference(**problem(), ranks=0)
    with pytest.raises(ValueError, match="ranks must divide the number of tokens, 24, got 5"):
        oracle.reference(**problem(), ranks=5)
    rows = oracle.draw(SwitchConfig(num_experts=4, groups="rows"), 24, 6, 5)
    with pytest.raises(ValueError, match=r"groups must be a number, or 'all' .* got 'rows'"):
        oracle.reference(**rows, ranks=2)
