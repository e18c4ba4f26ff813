"""A report says which terms it could not see."""

import numpy as np
import pytest
from oracle.problems import all_of, problem, without

from switch_np import oracle

ASKED, REF = problem(tokens=64, precision="bfloat16")


@pytest.mark.parametrize("term", ["balance", "z"])
def test_the_sentence_stands_exactly_where_it_is_true(term):
    said = {"float32": [], "bfloat16": []}
    for coef in 10.0 ** np.arange(-9, 4, 2):
        ref = oracle.reference(**ASKED | {f"{term}_coef": float(coef)})
        lacking = all_of(ref, **{name: without(ref, name, term) for name in ref.grads})
        for precision, blind in said.items():
            right, wrong = (oracle.compare(ref, **got, precision=precision)
                            for got in (all_of(ref), lacking))
            blind.append(f"the {term} term" in right.unseen)
            assert right.ok and blind[-1] == wrong.ok
            assert ("its absence would pass" in str(right)) == bool(right.unseen)
            assert str(right).startswith("pass, blind to the" if right.unseen else "pass: ")
    for blind in said.values():
        assert blind[0] and not blind[-1] and blind == sorted(blind, reverse=True)


def test_the_losses_alone_are_seen():
    ref = oracle.reference(**ASKED | {"d_y": None})
    assert not oracle.compare(ref, grads=ref.grads, precision="bfloat16").unseen


def test_a_forgotten_d_y_or_coefficient_is_the_first_line():
    bare = oracle.reference(**ASKED | {"d_y": None})
    first = oracle.compare(bare, y=REF.y, grads=REF.grads).diagnosis[0]
    assert first.startswith("the reference was asked without d_y")
    no_balance = oracle.reference(**ASKED | {"balance_coef": 0.0})
    grads = {"w_router": REF.grads["w_router"]}
    first = oracle.compare(no_balance, y=REF.y, grads=grads, precision="float64").diagnosis[0]
    assert first.startswith("d_w_router holds 0.5 times the balance loss's gradient")


def test_a_loss_that_is_right_for_bfloat16_only_is_told():
    def report(balance_loss, precision):
        return oracle.compare(REF, y=REF.y, balance_loss=np.float32(balance_loss),
                              precision=precision)

    assert not report(REF.balance_loss, "bfloat16").unseen
    near = report(REF.balance_loss * 1.001, "bfloat16")
    assert near.ok and str(near).startswith("pass, blind to balance_loss beyond bfloat16: ")
    assert "balance_loss came in float32" in str(near)
    assert not report(REF.balance_loss * 1.001, "float32").ok
    assert report(np.nan, "bfloat16").verdict == "fail"
