"""A cause changes something, contradicts nothing that is right, and fits."""

import numpy as np
import pytest
from oracle.explain.kernels import all_of, flipped, problem

from switch_np import oracle


def test_what_changes_nothing_is_no_cause():
    _, ref = problem(precision="float32")
    sigma, wrong = ref.sigma("float32")["d_w_out"], ref.grads["w_out"].copy()
    at = np.unravel_index(np.where(sigma > 0, sigma, 9).argmin(), sigma.shape)
    wrong[at] += 20 * sigma[at]
    report = oracle.compare(ref, grads={"w_out": wrong}, precision="float32")
    assert report.diagnosis == (f"unknown: d_w_out is wrong only in expert {at[0]}",)


@pytest.mark.parametrize("flips", [False, True])
def test_wrong_slots_alone_are_explained_by_no_bug_that_has_the_right_decisions(flips):
    asked, ref = problem(precision="bfloat16")
    expert = flipped(ref) if flips else ref.plan.expert
    got = oracle.reference(**asked, plan=expert)
    slot = got.plan.slot.copy()
    slot[got.plan.kept[:, 0].argmax()] = 99
    report = oracle.compare(ref, **all_of(got), expert=expert, slot=slot, precision="bfloat16")
    assert report.diagnosis == ("slot 99 of token 0 is outside 0 .. 7",)
    assert (report.routing.status == 1).sum() == flips
