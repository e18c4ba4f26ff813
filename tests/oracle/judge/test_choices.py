"""The judge of routing, against exact rational arithmetic and against sorting."""

from fractions import Fraction

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, oracle
from switch_np.oracle.judge import choices


def exact(scores, chosen, tau):
    """Return the verdict in rational arithmetic."""
    rest = [s for e, s in enumerate(scores) if e not in set(chosen)]
    gap = (max(map(Fraction, map(float, rest))) - min(Fraction(float(scores[e])) for e in chosen)
           if rest else Fraction(-1))
    best = sorted(range(len(scores)), key=lambda e: (-scores[e], e))[:len(chosen)]
    if set(best) == set(chosen):
        return 0
    return 1 if gap <= Fraction(float(tau)) else 2


@pytest.mark.parametrize("num_experts, top_k, rows", [
    (2, 1, 20_000), (8, 1, 20_000), (8, 2, 20_000), (64, 6, 8_000), (512, 8, 1_500)])
def test_many_rows_have_no_wrong_verdict(monkeypatch, num_experts, top_k, rows):
    """Tried once with a million rows as well."""
    monkeypatch.setattr(choices, "CHUNK", 100_000)               # so that some rows are left over
    rng = np.random.default_rng(num_experts + top_k)
    scores = rng.standard_normal((rows, num_experts), np.float32)
    scores[:rows // 4] = scores[:rows // 4].round(1)                  # ties, and exact steps of 0.1
    tau = np.where(np.arange(rows) % 2, np.float32(0.1), 2.0 ** -6)
    chosen = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k]
    moved = rng.random(rows) < 0.5                 # a near expert, or any, in place of one chosen
    other = np.argsort(-scores, axis=1)[:, min(top_k, num_experts - 1)]
    other = np.where(rng.random(rows) < 0.5, other, rng.integers(0, num_experts, rows))
    moved &= ~(chosen == other[:, None]).any(axis=1)
    chosen[moved, rng.integers(0, top_k, rows)[moved]] = other[moved]
    status = oracle.compare_routing(scores, chosen, tau=tau).status

    wide = scores.astype(np.float64)
    low = np.take_along_axis(wide, chosen, axis=1).min(axis=1)
    np.put_along_axis(wide, chosen, -np.inf, axis=1)
    gap = wide.max(axis=1) - low
    sure = np.abs(gap - tau) > 1e-9
    assert (status[sure & (gap < 0)] == 0).all()
    assert (status[sure & (gap > tau)] == 2).all()
    between = sure & (gap > 0) & (gap < tau)
    assert (status[between] == 1).all() and between.sum() > 20
    close = np.flatnonzero(~sure | (gap == 0))[:300]
    for t in close:
        assert status[t] == exact(scores[t], chosen[t].tolist(), tau[t])
    assert set(np.unique(status)) == {0, 1, 2}


def test_experts_that_do_not_exist_are_called_so():
    report = str(oracle.compare_routing(np.eye(3), [[0], [3], [-1]]))
    assert "2 wrong, such as token 1: got [3], want [1], not distinct experts" in report


def test_a_gap_just_above_tau_is_wrong_though_the_difference_rounds_to_it():
    low = -2.0 ** -60 - 2.0 ** -90                                     # 1 - low rounds to 1
    assert 1.0 - low == 1.0 < Fraction(1) - Fraction(low)
    for score, status in ((low, 2), (-low, 1)):
        assert oracle.compare_routing([[1.0, score]], [1], tau=1.0).status.tolist() == [status]


@pytest.mark.parametrize("scores, expert, tau, status", [
    ([[3.0, 2.0, 1.0]], [[1, 0]], None, [0]),                          # the order does not matter
    ([[1.0] * 4] * 3, [[0, 0], [0, 4], [-1, 0]], 10.0, [2, 2, 2]),     # one twice, or none there
    ([[0.9, 0.1, -np.inf]] * 3, [[0], [1], [2]], None, [0, 2, 2])])    # -inf makes no tau infinite
def test_these_rows_have_these_verdicts(scores, expert, tau, status):
    assert oracle.compare_routing(scores, expert, tau=tau).status.tolist() == status


def test_tau_is_printed_and_follows_the_precision():
    half, single = (oracle.compare_routing([[1.0, 1.001, 0.0]], [0], precision=precision)
                    for precision in ("bfloat16", "float32"))
    assert half.ok and "tau 0.031" in str(half)
    assert not single.ok and "> tau" in str(single)


@pytest.mark.parametrize("scores, expert, words", [
    (np.ones(3), [0], "scores must have shape"), ([[np.nan, 1.0]], [0], "got NaN"),
    (np.ones((2, 3)), [0.5, 1.0], "expert must hold whole numbers"),
    (np.ones((2, 3)), [[0, 1, 2, 3]] * 2, "expert must name 1 to 3")])
def test_bad_arguments_are_named(scores, expert, words):
    with pytest.raises(ValueError, match=words):
        oracle.compare_routing(scores, expert)


def test_scores_far_below_the_selection_bias_are_near_ties():
    config = SwitchConfig.like("hf_deepseek_v3", num_experts=8, top_k=2, router_bias=True)
    asked, _ = problem(config, 64, precision="float32")
    w = asked["params"]
    moved = {"select_bias": w["select_bias"] + 12, "b_router": w["b_router"] - 15}
    ref = oracle.reference(**asked | {"params": w | moved})
    scores = ref.probs.astype(np.float32) + moved["select_bias"].astype(np.float32)
    expert = np.argsort(-scores, axis=1, kind="stable")[:, :2]         # groups of one expert each
    assert oracle.compare(ref, expert=expert, precision="float32").routing.ok


@pytest.mark.parametrize("tau", [np.nan, -1.0, [0.1, 0.1]])
def test_a_tau_that_is_none_is_refused(tau):
    with pytest.raises(ValueError, match="tau must be a number of at least 0"):
        oracle.compare_routing([[0.9, 0.1]] * 3, [1, 1, 1], tau=tau)
