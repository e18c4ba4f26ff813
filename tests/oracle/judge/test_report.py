"""A report is plain values too, and lists what it did not judge."""

import json

import numpy as np
from oracle.problems import all_of, judged, problem, with_drops

from switch_np import oracle


def test_a_report_is_plain_values_too():
    _, ref = with_drops()
    report = judged(ref, all_of(ref, y=ref.y + 1) | {"expert": ref.plan.expert})
    found = json.loads(json.dumps(report.to_dict()))
    assert found["verdict"] == "fail" and not found["tensors"]["y"]["ok"]
    assert found["tensors"]["d_x"]["ok"] and found["routing"]["status"] == [0] * 32


def test_what_was_not_handed_in_is_listed():
    _, ref = problem()
    report = oracle.compare(ref, y=ref.y, grads={"x": ref.grads["x"]})
    assert report.not_judged == ("balance_loss", "z_loss", "d_w_router", "d_w_in", "d_w_out")
    assert "not judged balance_loss, z_loss, d_w_router" in str(report)
    spoilt = ref.grads["w_in"] * np.where(np.arange(4) == 1, np.nan, 1.0)[:, None, None]
    report = oracle.compare(ref, grads={"w_in": spoilt})          # "only expert 1": no word of y
    assert report.not_judged == ("y", "balance_loss", "z_loss", "d_x", "d_w_router", "d_w_out")
    lost = oracle.compare(ref, y=ref.y, grads={"x": None})
    assert "d_x" not in lost.not_judged and lost.verdict == "fail"
