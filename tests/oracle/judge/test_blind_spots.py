"""A report says which terms it could not see, and what it did not judge."""

import numpy as np
import pytest

import switch_np as snp
from switch_np import oracle

CONFIG = snp.SwitchConfig(num_experts=4, capacity_factor=1.0)


def asked(**changed):
    return oracle.draw(CONFIG, 64, d_model=8, d_ff=12, precision="bfloat16") | changed


def without(ref, term):
    """Return what a kernel gives whose gradients lack a term."""
    grads = {name: grad - ref.terms[name].get(term, 0) for name, grad in ref.grads.items()}
    return {"y": ref.y, "balance_loss": ref.balance_loss, "z_loss": ref.z_loss, "grads": grads}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("term", ["balance", "z"])
def test_the_sentence_stands_exactly_where_it_is_true(term, precision):
    said = []
    for coef in 10.0 ** np.arange(-9, 4):
        ref = oracle.reference(**asked(**{f"{term}_coef": float(coef)}))
        right = oracle.compare(ref, **without(ref, "no such term"), precision=precision)
        wrong = oracle.compare(ref, **without(ref, term), precision=precision)
        assert right.ok and (f"the {term} term" in right.unseen) == wrong.ok
        assert ("its absence would pass" in str(right)) == bool(right.unseen)
        assert str(right).startswith("pass, blind to the" if right.unseen else "pass: ")
        said.append(f"the {term} term" in right.unseen)
    assert said[0] and not said[-1] and said == sorted(said, reverse=True)


def test_the_losses_alone_are_seen():
    ref = oracle.reference(**asked(d_y=None))
    assert not oracle.compare(ref, grads=ref.grads, precision="bfloat16").unseen


def test_what_was_not_handed_in_is_listed():
    ref = oracle.reference(**asked())
    report = oracle.compare(ref, y=ref.y, grads={"x": ref.grads["x"]})
    assert report.not_judged == ("balance_loss", "z_loss", "d_w_router", "d_w_in", "d_w_out")
    assert "not judged balance_loss, z_loss, d_w_router" in str(report)
    lost = oracle.compare(ref, y=ref.y, grads={"x": None})
    assert "d_x" not in lost.not_judged and lost.verdict == "fail"


def test_a_right_y_confirms_the_experts():
    """One router's column twice: every token is at a tie, and which expert it took shows in y."""
    problem = asked()
    problem["params"]["w_router"][:, 1] = problem["params"]["w_router"][:, 0]
    ref = oracle.reference(**problem)
    wrong = {**ref.grads, "w_in": 2 * ref.grads["w_in"]}
    assert oracle.compare(ref, y=ref.y, grads=wrong, precision="bfloat16").verdict == "fail"
    assert oracle.compare(ref, grads=wrong, precision="bfloat16").verdict in ("fail", "undecided")


def test_scores_far_below_the_selection_bias_are_near_ties():
    config = snp.SwitchConfig.like("hf_deepseek_v3", num_experts=8, top_k=2, router_bias=True)
    problem = oracle.draw(config, 64, d_model=8, d_ff=12, precision="float32")
    problem["params"]["select_bias"] += 12
    problem["params"]["b_router"] -= 15
    ref = oracle.reference(**problem)
    scores = (ref.probs.astype(np.float32) + problem["params"]["select_bias"].astype(np.float32))
    groups = np.sort(scores.reshape(64, 8, 1), axis=2)[:, :, -2:].sum(axis=2)
    open_ = np.argsort(-groups, axis=1, kind="stable")[:, :4]
    masked = np.full_like(scores, -np.inf)
    np.put_along_axis(masked, open_, np.take_along_axis(scores, open_, axis=1), axis=1)
    expert = np.argsort(-masked, axis=1, kind="stable")[:, :2]
    assert oracle.compare(ref, expert=expert, precision="float32").routing.ok


def test_what_overflows_in_float64_is_no_pass():
    problem = asked()
    ref = oracle.reference(**problem | {"d_y": problem["d_y"] * 1e200})
    assert oracle.compare(ref, y=ref.y, grads=ref.grads, precision="float64").verdict != "pass"


def test_a_forgotten_d_y_or_coefficient_is_the_first_line():
    full, bare = oracle.reference(**asked()), oracle.reference(**asked(d_y=None))
    first = oracle.compare(bare, y=full.y, grads=full.grads).diagnosis[0]
    assert first.startswith("the reference was asked without d_y")
    no_balance = oracle.reference(**asked(balance_coef=0.0))
    grads = {"w_router": full.grads["w_router"]}
    first = oracle.compare(no_balance, y=full.y, grads=grads, precision="float64").diagnosis[0]
    assert first.startswith("d_w_router holds 0.5 times the balance loss's gradient")


def test_a_loss_that_is_right_for_bfloat16_only_is_told():
    ref = oracle.reference(**asked())
    right = {"y": ref.y, "balance_loss": np.float32(ref.balance_loss)}
    assert not oracle.compare(ref, **right, precision="bfloat16").unseen
    near = {"y": ref.y, "balance_loss": np.float32(ref.balance_loss * 1.001)}
    report = oracle.compare(ref, **near, precision="bfloat16")
    assert report.ok and str(report).startswith("pass, blind to balance_loss beyond bfloat16: ")
    assert "balance_loss came in float32" in str(report)
    assert not oracle.compare(ref, **near, precision="float32").ok
    lost = {"y": ref.y, "balance_loss": np.float32(np.nan)}
    assert oracle.compare(ref, **lost, precision="bfloat16").verdict == "fail"


def test_a_scalar_loss_does_not_loosen_the_rest():
    asked_ = asked(x=asked()["x"].astype(np.float32))
    ref = oracle.reference(**asked_)
    report = oracle.compare(ref, y=ref.y.astype(np.float32),
                            balance_loss=np.float16(ref.balance_loss))
    assert report.precision == "float32"
