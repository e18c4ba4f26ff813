"""What a kernel gives is taken as it is; what is missing, misshapen or not finite comes first."""

import numpy as np
import pytest
from oracle.problems import problem, with_drops

from switch_np import oracle

_, REF = with_drops()


def test_structure_comes_first():
    nan = REF.grads["w_in"].copy()
    nan[3] = np.nan
    report = oracle.compare(REF, y=REF.y.T, complete=True, grads={
        "x": None, "w_in": nan, "w_out": [*REF.grads["w_out"][:3], None]})
    words = "\n".join(report.structure)
    assert "y has shape (8, 32), want (32, 8): transposed" in words
    assert "d_x is None: no gradient reaches it" in words
    assert "d_w_router is missing" in words
    assert "d_w_in has 64 of 256 entries not finite (NaN), first at [3, 0, 0]" in words
    assert "only expert 3" in words and "d_w_out" not in words
    assert report.notes == ("d_w_out is None for expert 3, whose gradient is 0",)
    assert "experts without tokens (3)" in report.diagnosis[0]
    with pytest.raises(ValueError, match="grads must have keys among"):
        oracle.compare(REF, grads={"router": 1})


def test_what_is_missing_or_misshapen_is_said_without_a_guess_at_the_cause():
    _, ref = problem()
    report = oracle.compare(ref, y=ref.y[:2], grads={"w_router": None})
    assert report.verdict == "fail" and not report.diagnosis
    assert "y has shape (2, 8), want (32, 8)" in str(report)
    assert "d_w_router is None: no gradient reaches it" in str(report)


def test_a_list_of_experts_is_one_tensor():
    parts = [*REF.grads["w_out"]]
    assert oracle.compare(REF, grads={"w_out": parts}).ok
    report = oracle.compare(REF, grads={"w_out": [None, *parts[1:]]})
    assert "None for expert 0" in report.structure[0]


def test_nothing_to_judge_is_an_error():
    for got in ({}, {"grads": {}}, {"y": None}):
        with pytest.raises(ValueError, match="compare needs something to judge"):
            oracle.assert_matches(REF, **got)
    with pytest.raises(TypeError, match="ref must be a Reference, got an array"):
        oracle.compare(REF.y, y=REF.y)
