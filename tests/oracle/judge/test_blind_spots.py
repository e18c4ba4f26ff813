"""A report says which terms it could not see."""

from dataclasses import replace

import numpy as np
import pytest
from oracle.problems import all_of, problem, without

from switch_np import SwitchConfig, oracle

ASKED, REF = problem(tokens=64, precision="bfloat16")


@pytest.mark.parametrize("term", ["balance", "z"])
def test_the_sentence_stands_exactly_where_it_is_true(term):
    said = {"float32": [], "bfloat16": []}
    for coef in 10.0 ** np.arange(-9, 4, 3):
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
    assert first.startswith("the reference was made without d_y")
    no_balance = oracle.reference(**ASKED | {"balance_coef": 0.0})
    grads = {"w_router": REF.grads["w_router"]}
    first = oracle.compare(no_balance, y=REF.y, grads=grads, precision="float64").diagnosis[0]
    coef = ASKED["balance_coef"]
    assert first.startswith(f"d_w_router contains {coef:g} times the balance loss's gradient")


def test_a_loss_that_is_right_for_bfloat16_only_is_told():
    def report(balance_loss, precision):
        return oracle.compare(REF, y=REF.y, balance_loss=np.float32(balance_loss),
                              precision=precision)

    assert not report(REF.balance_loss, "bfloat16").unseen
    near = report(REF.balance_loss * 1.001, "bfloat16")
    assert near.ok and str(near).startswith("pass, blind to balance_loss beyond bfloat16: ")
    assert "balance_loss was given in float32" in str(near)
    assert not report(REF.balance_loss * 1.001, "float32").ok
    assert report(np.nan, "bfloat16").verdict == "fail"


def halves():
    """Return a problem whose inputs are of float16, and its reference."""
    asked = dict(problem(tokens=64, precision="float16")[0])
    asked["x"] = asked["x"].astype(np.float16)
    return asked, oracle.reference(**asked)


def test_a_single_output_is_judged_in_a_precision_of_its_own():
    ref = halves()[1]
    near = {"y": ref.y.astype(np.float32), "balance_loss": np.float32(ref.balance_loss * 1.0001)}
    lenient = oracle.compare(ref, **near)
    assert lenient.verdict == "pass" and lenient.unseen
    assert lenient.notes[0].startswith("judged in float16, the inputs' precision; y, balance_loss")
    assert oracle.compare(ref, **near, precision={}).notes == lenient.notes
    strict = oracle.compare(ref, **near, precision={"balance_loss": "float32"})
    assert strict.verdict == "fail" and not strict.unseen
    assert not strict.tensors["balance_loss"].ok and strict.tensors["y"].ok
    assert strict.notes[0] == "judged in float16, but balance_loss in float32, as asked"
    right = near | {"balance_loss": np.float32(ref.balance_loss)}
    assert oracle.compare(ref, **right, precision={"balance_loss": "float32"}).ok


def test_choices_are_judged_in_a_precision_of_their_own():
    asked, _ = halves()
    asked["params"]["w_router"][:, 1] = asked["params"]["w_router"][:, 0] * (1 + 1e-4)
    ref = oracle.reference(**asked)
    token = np.flatnonzero(ref.plan.expert[:, 0] <= 1)[0]
    expert = ref.plan.expert.copy()
    expert[token, 0] = 1 - expert[token, 0]
    flipped = oracle.reference(**asked, plan=expert)
    given = {"y": flipped.y.astype(np.float32), "expert": expert}
    assert oracle.compare(ref, **given).ok
    report = oracle.compare(ref, **given, precision={"choice": "float32"})
    assert report.verdict == "fail" and "wrong experts" in str(report)


@pytest.mark.parametrize("precision, words", [
    ({"d_w_nothing": "float32"}, "precision's key must be one of 'choice', 'y'"),
    ({"y": "float99"}, "precision must be one of 'float64'"),
    (32, "precision must be a string or a dict, got 32")])
def test_precisions_that_are_none_are_refused(precision, words):
    with pytest.raises((TypeError, ValueError), match=words):
        oracle.compare(REF, y=REF.y, precision=precision)


@pytest.mark.parametrize("config, options, blind", [
    (SwitchConfig(num_experts=4, capacity=0), {"balance_coef": 0.0, "z_coef": 0.0},
     ("y", "every gradient")),
    (SwitchConfig(num_experts=64, capacity_factor=1.0), {}, ("y",)),
    (SwitchConfig(num_experts=4), {"padding": np.ones(32, bool)}, ("y", "every gradient")),
    (SwitchConfig(num_experts=4, capacity_factor=None),
     {"d_y": None, "balance_coef": 0.0, "z_coef": 0.0}, ("every gradient",)),
    (SwitchConfig(num_experts=4, capacity_factor=None), {}, ())])
def test_passing_by_nothing_is_said(config, options, blind):
    ref = oracle.reference(**problem(config)[0] | options)
    nothing = {name: np.zeros_like(grad) for name, grad in ref.grads.items()}
    report = oracle.compare(ref, y=ref.y, grads=ref.grads)
    assert report.ok and tuple(report.unseen) == blind
    if blind:
        assert str(report).startswith(f"pass, blind to {' and '.join(blind)}: ")
        grads = nothing if "every gradient" in blind else None
        assert oracle.compare(ref, y=0 * ref.y if "y" in blind else ref.y, grads=grads).ok


def test_a_capacity_without_effect_is_said():
    def passes(config):
        unlimited = replace(config, capacity_factor=None)
        asked = problem(config)[0]
        ref, other = (oracle.reference(**asked | {"config": each}) for each in (config, unlimited))
        assert oracle.compare(ref, **all_of(ref)).ok
        return oracle.compare(ref, **all_of(other)), oracle.compare(ref, z_loss=ref.z_loss)

    ample, losses = passes(SwitchConfig(num_experts=4, capacity_factor=4.0))
    assert str(ample).startswith("pass, blind to the capacity: ") and not losses.unseen
    tight, _ = passes(SwitchConfig(num_experts=4, capacity_factor=1.0))
    assert tight.verdict == "fail" and not tight.unseen
    asked = problem(SwitchConfig(num_experts=4, capacity_factor=1.0))[0]
    ref, other = (oracle.reference(**asked | {"config": SwitchConfig(
        num_experts=4, capacity_factor=factor)}) for factor in (1.0, None))
    judged = oracle.compare(ref, **all_of(other), expert=other.plan.expert, kept=other.plan.kept)
    assert judged.verdict == "fail" and not judged.unseen      # the choices are judged as well
