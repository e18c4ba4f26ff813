"""Verdicts: right kernels pass in every precision, wrong ones fail, and the cause is named."""

import unittest

import numpy as np
import pytest
from oracle.problems import all_of, judged, problem, with_drops

from switch_np import SwitchConfig, oracle

ASKED, REF = with_drops()
GRADS, TERMS = REF.grads, REF.terms


def test_the_truth_passes_in_every_precision():
    for precision in ("float64", "float32", "bfloat16", "float16"):
        report = oracle.compare(REF, **all_of(REF), precision=precision)
        assert report.ok and str(report).startswith("pass") and not report.diagnosis
        assert "right      y, balance_loss" in str(report)
    oracle.assert_matches(REF, **all_of(REF), plan=REF.plan, complete=True)


def test_the_precision_follows_the_dtype():
    half = oracle.compare(REF, y=REF.y.astype(np.float16))
    assert half.precision == "float16" and half.ok
    assert not oracle.compare(REF, y=REF.y.astype(np.float16), precision="float32").ok
    lifted = oracle.reference(**ASKED | {"x": ASKED["x"].astype(np.float16)})
    assert oracle.compare(lifted, y=lifted.y.astype(np.float32)).precision == "float16"
    single = oracle.reference(**ASKED | {"x": ASKED["x"].astype(np.float32)})
    report = oracle.compare(single, y=single.y.astype(np.float32),
                            balance_loss=np.float16(single.balance_loss))
    assert report.precision == "float32"              # a scalar loss does not loosen the rest


@pytest.mark.parametrize("changed, words", [
    ({"w_router": GRADS["w_router"] - TERMS["w_router"]["balance"]},
     "d_w_router = 1.00·gate + 0.00·balance + 1.00·z: the balance loss does not reach the router"),
    ({"w_router": GRADS["w_router"] + 3 * TERMS["w_router"]["balance"]},
     "the balance loss's gradient is multiplied by 4 (E, the experts)"),
    ({"x": TERMS["x"]["experts"]}, "no gradient comes back through the router"),
    ({"w_in": -GRADS["w_in"]}, "d_w_in is of the wrong sign"),
    ({"w_in": GRADS["w_in"].swapaxes(1, 2)}, "d_w_in is transposed"),
    ({"w_out": GRADS["w_out"][[1, 0, 2, 3]]},
     "d_w_out has its experts permuted: expert 0 holds that of expert 1"),
    ({"w_out": 0 * GRADS["w_out"]}, "d_w_out is all zeros"),
    ({"y": np.roll(REF.y, 1, axis=0)}, "y has its tokens permuted"),
    ({"y": 2 * REF.y}, "y is multiplied by 2 (k, the choices per token)"),
    ({"y": REF.y * (np.arange(32) < 20)[:, None]}, "the last ones"),
    ({"y": np.where(REF.plan.kept.any(axis=1)[:, None], REF.y, REF.problem.x)}, "dropped tokens"),
])
def test_the_first_line_names_the_cause(changed, words):
    report = judged(REF, all_of(REF, **changed))
    assert report.verdict == "fail" and words in report.diagnosis[0]


def test_out_of_range_is_neither_pass_nor_fail():
    _, ref = with_drops(scale=1e5)
    report = oracle.compare(ref, y=0 * ref.y, precision="float16")
    assert report.verdict == "out of range" and "65504" in str(report)
    assert oracle.compare(ref, y=0 * ref.y, precision="bfloat16").verdict == "fail"
    with pytest.raises(unittest.SkipTest):
        oracle.assert_matches(ref, y=ref.y, precision="float16")
    asked, _ = problem()
    ref = oracle.reference(**asked | {"d_y": asked["d_y"] * 1e200})
    assert oracle.compare(ref, y=ref.y, grads=ref.grads, precision="float64").verdict != "pass"


def test_a_constant_upstream_is_noted():
    ref = oracle.reference(**ASKED | {"d_y": np.ones((32, 8))})
    assert "permuted" in oracle.compare(ref, y=ref.y).notes[0]


def test_assertion_shows_the_report():
    with pytest.raises(AssertionError) as error:
        oracle.assert_matches(REF, y=REF.y * 2)
    assert "cause" in str(error.value) and "numbers" in str(error.value)


@pytest.mark.parametrize("name", ["hf_mixtral", "hf_deepseek_v3", "st_moe", "labml", "megatron"])
def test_conventions_are_judged_like_the_paper(name):
    config = SwitchConfig.like(name, num_experts=4)
    _, ref = problem(config, 16, 7, 5, batch=2 if config.groups == "rows" else None)
    decided = {"expert": ref.plan.expert[:, ::-1], "kept": ref.plan.kept[:, ::-1]}
    assert judged(ref, all_of(ref) | decided).ok
    reports = {key: oracle.compare(ref, grads={key: 1.01 * grad}, **decided)
               for key, grad in ref.grads.items() if grad.any()}
    assert {report.verdict for report in reports.values()} == {"fail"}
    assert reports["w_router"].diagnosis
    wrong = decided["expert"].copy()
    wrong[5] = np.argsort(ref.scores[5])[:wrong.shape[1]]
    assert not oracle.compare(ref, expert=wrong).ok
