"""Verdicts and reports: order, words, near-ties, ranges, and who is to blame."""

import json
import unittest

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle
from switch_np.oracle.explain import museum
from switch_np.oracle.judge import inferred_choices, judge_choices

CONFIG = SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.8)


def problem(config=CONFIG, **options):
    options = {"seed": 5, "padding": 2, "unused": 1} | options
    return oracle.draw(config, 32, d_model=8, d_ff=8, **options)


REF = oracle.reference(**problem())


def all_of(ref, **changed):
    return {"y": ref.y, "balance_loss": ref.balance_loss, "z_loss": ref.z_loss,
            "grads": dict(ref.grads), **changed}


def first_cause(ref, **changed):
    report = oracle.compare(ref, **all_of(ref, **changed))
    assert report.verdict == "fail", str(report)
    return report.diagnosis[0]


def with_grad(name, value):
    return {"grads": {**REF.grads, name: value}}


def test_the_truth_passes_in_every_precision():
    for precision in ("float64", "float32", "bfloat16", "float16"):
        report = oracle.compare(REF, **all_of(REF), precision=precision)
        assert report.ok and "pass" in str(report) and not report.diagnosis
    oracle.assert_matches(REF, **all_of(REF), plan=REF.plan, complete=True)


def test_the_precision_follows_the_dtype():
    half = oracle.compare(REF, y=REF.y.astype(np.float16))
    assert half.precision == "float16" and half.ok
    assert not oracle.compare(REF, y=REF.y.astype(np.float16), precision="float32").ok
    lifted = oracle.reference(**{**problem(), "x": problem()["x"].astype(np.float16)})
    assert oracle.compare(lifted, y=lifted.y.astype(np.float32)).precision == "float16"


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


def test_a_list_of_experts_is_one_tensor():
    assert oracle.compare(REF, grads={"w_out": list(REF.grads["w_out"])}).ok
    part = [*REF.grads["w_out"]]
    part[0] = None
    assert "None for expert 0" in oracle.compare(REF, grads={"w_out": part}).structure[0]


@pytest.mark.parametrize("changed, words", [
    (with_grad("w_router", REF.grads["w_router"] - REF.terms["w_router"]["balance"]),
     "d_w_router = 1.00·gate + 0.00·balance + 1.00·z: the balance loss does not reach the router"),
    (with_grad("w_router", REF.grads["w_router"] + 3 * REF.terms["w_router"]["balance"]),
     "the balance loss's gradient is multiplied by 4 (E, the experts)"),
    (with_grad("x", REF.terms["x"]["experts"]), "nothing comes back through the router"),
    (with_grad("w_in", -REF.grads["w_in"]), "d_w_in is of the wrong sign"),
    (with_grad("w_in", REF.grads["w_in"].swapaxes(1, 2)), "d_w_in is transposed"),
    (with_grad("w_out", REF.grads["w_out"][[1, 0, 2, 3]]),
     "d_w_out has its experts permuted: expert 0 holds that of expert 1"),
    (with_grad("w_out", 0 * REF.grads["w_out"]), "d_w_out is all zeros"),
    ({"y": np.roll(REF.y, 1, axis=0)}, "y has its tokens permuted"),
    ({"y": 2 * REF.y}, "y is multiplied by 2 (k, the choices per token)"),
    ({"y": REF.y * (np.arange(32) < 20)[:, None]}, "the last ones"),
    ({"y": np.where(REF.plan.kept.any(axis=1)[:, None], REF.y, REF.problem.x)},
     "dropped tokens"),
])
def test_the_first_line_names_the_cause(changed, words):
    assert words in first_cause(REF, **changed)


def test_what_no_family_explains_is_located():
    wrong = REF.grads["w_in"].copy()
    wrong[1, 2, 3] += 1
    report = oracle.compare(REF, **all_of(REF, **with_grad("w_in", wrong)))
    assert report.diagnosis == ("unknown: d_w_in is wrong only in expert 1",)
    tensor = report.tensors["d_w_in"]
    assert tensor.at == (1, 2, 3) and tensor.blocks == ("expert 1",)
    assert "at [1, 2, 3] (expert 1," in str(report)


def test_exact_zeros_are_demanded():
    wrong = REF.grads["w_in"].copy()
    wrong[3] = 1e-300
    report = oracle.compare(REF, **all_of(REF, **with_grad("w_in", wrong)))
    assert not report.ok and "want exactly 0" in str(report)
    assert "not zero for experts without tokens (3)" in report.diagnosis[0]


def test_tokens_slots_and_experts_are_named():
    wrong = REF.y.copy()
    token = int(REF.plan.token[3])
    wrong[token, 1] += 1
    text = str(oracle.compare(REF, y=wrong))
    places = [f"expert {e} slot {s}" if s >= 0 else f"expert {e} dropped"
              for e, s in zip(REF.plan.expert[token], REF.plan.slot[token])]
    assert f"[{token}, 1] (token {token}, {', '.join(places)})" in text
    assert len(text.splitlines()) <= 6


def test_a_report_is_plain_values_too():
    report = oracle.compare(REF, **all_of(REF, y=REF.y + 1), expert=REF.plan.expert)
    found = json.loads(json.dumps(report.to_dict()))
    assert found["verdict"] == "fail" and not found["tensors"]["y"]["ok"]
    assert found["tensors"]["d_x"]["ok"] and found["routing"]["status"] == [0] * 32


def near_tie():
    """Return a problem in which token 3's first choice hangs on the last bit of float32."""
    asked = problem(SwitchConfig(num_experts=3, capacity_factor=1.0), padding=0, unused=0)
    w = asked["params"]["w_router"]
    ref = oracle.reference(**asked)
    first, second = np.argsort(-ref.probs[3])[:2]
    d = w[:, first] - w[:, second]
    asked["x"][3] -= d * ((asked["x"][3] @ d) * (1 - 1e-9) / (d @ d))
    return asked


def test_a_legal_flip_passes_and_is_printed():
    asked = near_tie()
    ref = oracle.reference(**asked)
    second = np.argsort(-ref.probs[3])[1]
    flipped = ref.plan.expert.copy()
    flipped[3] = second
    assert flipped[3] != ref.plan.expert[3]
    other = oracle.reference(**asked, plan=flipped)
    got = {**all_of(other), "precision": "float32"}
    report = oracle.compare(ref, **got, expert=flipped, kept=other.plan.kept)
    assert report.ok and "1 legal flip, as token 3" in str(report)
    assert "tau" in str(report) and "own decisions" in report.notes[-1]
    inferred = oracle.compare(ref, **got)                  # it did not say so, but its y does
    assert inferred.ok and "inferred from y: token 3" in inferred.notes[0]
    blind = oracle.compare(ref, grads=other.grads, precision="float32")
    assert blind.verdict == "undecided"
    with pytest.raises(oracle.NoVerdict):
        oracle.assert_matches(ref, grads=other.grads, precision="float32")
    none = {name: np.zeros_like(grad) for name, grad in other.grads.items()}
    wrong = oracle.compare(ref, grads=none, precision="float32")
    assert wrong.verdict == "fail" and "any legal flip" in wrong.notes[0]
    exact = oracle.compare(ref, **{**got, "precision": "float64"}, expert=flipped)
    assert exact.verdict == "fail" and "wrong experts" in exact.routing_errors[0]


@pytest.mark.parametrize("given", ["y", "grads"])
def test_flips_do_not_excuse_what_no_flip_explains(given):
    """In bfloat16 some of 256 tokens always lie at near-ties."""
    asked = oracle.draw(SwitchConfig(num_experts=8, capacity_factor=1.0), 256, d_model=16, d_ff=16,
                        precision="bfloat16")
    ref = oracle.reference(**asked)
    near_T = ref.margin <= judge_choices.tau(ref, "bfloat16")
    assert np.count_nonzero(near_T) > inferred_choices.MOST
    assert oracle.compare(ref, **{given: all_of(ref)[given]}, precision="bfloat16").ok
    for factor in (0.0, 1e9):
        got = {"y": ref.y * factor,
               "grads": {name: grad * factor for name, grad in ref.grads.items()}}
        report = oracle.compare(ref, **{given: got[given]}, precision="bfloat16")
        assert report.verdict == "fail"


def test_flips_that_did_not_happen_are_not_inferred():
    config = SwitchConfig.like("paper", num_experts=4, top_k=2, capacity_factor=1.0, renorm="pre")
    near = 0
    for seed in range(12):
        ref = oracle.reference(**oracle.draw(config, 32, d_model=8, d_ff=12, seed=seed,
                                             precision="bfloat16"))
        near += np.count_nonzero(ref.margin <= judge_choices.tau(ref, "bfloat16"))
        rng, sigma = np.random.default_rng(seed), ref.sigma("bfloat16")
        y = ref.y + sigma["y"] * rng.standard_normal(ref.y.shape)
        report = oracle.compare(ref, y=y, grads=ref.grads, precision="bfloat16")
        assert report.ok and not report.notes, str(report)
    assert near > 20



def test_wrong_experts_fail_though_the_numbers_follow_them():
    wrong = REF.plan.expert.copy()
    wrong[7] = (wrong[7] + 1) % 3
    wrong[7] = sorted(wrong[7], key=lambda e: -REF.scores[7, e])
    assert len(set(wrong[7])) == 2
    other = oracle.reference(**problem(), plan=wrong)
    report = oracle.compare(REF, **all_of(other), expert=wrong)
    assert report.verdict == "fail" and "1 wrong, as token 7" in str(report)
    assert all(tensor.ok for tensor in report.tensors.values())


def test_wrong_drops_fail_and_name_the_token():
    kept = REF.plan.kept.copy()
    token, choice = np.argwhere(kept)[4]
    kept[token, choice] = False
    report = oracle.compare(REF, expert=REF.plan.expert, kept=kept)
    assert report.verdict == "fail"
    assert f"token {token}, choice {choice} is dropped, want kept" in report.routing_errors[0]
    slot = REF.plan.slot.copy()
    slot[tuple(np.argwhere(kept)[0])] = 99
    assert "slot 99" in oracle.compare(REF, expert=REF.plan.expert, slot=slot).routing_errors[0]


def test_experts_may_come_in_any_order():
    turned = {"expert": REF.plan.expert[:, ::-1], "kept": REF.plan.kept[:, ::-1]}
    assert oracle.compare(REF, **all_of(REF), **turned).ok
    with pytest.raises(ValueError, match="expert must be handed in"):
        oracle.compare(REF, kept=REF.plan.kept)
    report = oracle.compare(REF, expert=REF.plan.expert[:, :1])
    assert report.routing_errors == ("the kernel made 1 choice per token, want 2",)


def test_out_of_range_is_neither_pass_nor_fail():
    ref = oracle.reference(**problem(scale=1e5))
    report = oracle.compare(ref, y=0 * ref.y, precision="float16")
    assert report.verdict == "out of range" and "65504" in str(report)
    assert oracle.compare(ref, y=0 * ref.y, precision="bfloat16").verdict == "fail"
    with pytest.raises(unittest.SkipTest):
        oracle.assert_matches(ref, y=ref.y, precision="float16")


def test_a_constant_upstream_is_noted():
    ref = oracle.reference(**{**problem(), "d_y": np.ones((32, 8))})
    assert "permuted" in oracle.compare(ref, y=ref.y).notes[0]


def test_assertion_shows_the_report():
    with pytest.raises(AssertionError) as error:
        oracle.assert_matches(REF, y=REF.y * 2)
    assert "cause" in str(error.value) and "numbers" in str(error.value)


@pytest.mark.parametrize("name", ["hf_mixtral", "hf_deepseek_v3", "st_moe", "labml", "megatron"])
def test_conventions_are_judged_like_the_paper(name):
    config = SwitchConfig.like(name, num_experts=8)
    asked = oracle.draw(config, 24, d_model=7, d_ff=5, batch=2 if config.groups == "rows" else None)
    ref = oracle.reference(**asked)
    got = {**all_of(ref), "expert": ref.plan.expert[:, ::-1], "kept": ref.plan.kept[:, ::-1]}
    assert oracle.compare(ref, **got).ok
    for key in ref.grads:
        if ref.grads[key].any():
            report = oracle.compare(ref, **{**got, "grads": {key: 1.01 * ref.grads[key]}})
            assert report.verdict == "fail" and report.diagnosis, key
    wrong = got["expert"].copy()
    wrong[5] = np.argsort(ref.scores[5])[:wrong.shape[1]]
    assert not oracle.compare(ref, expert=wrong).ok


def test_rounded_kernels_pass_and_say_so():
    asked = problem(precision="bfloat16")
    given = museum.run(None, **asked, precision="bfloat16")
    report = oracle.compare(oracle.reference(**asked), y=given["y"], grads=given["grads"],
                            expert=given["expert"], precision="bfloat16")
    assert report.ok and "right" in str(report)


def test_what_is_missing_or_misshapen_is_said_without_a_guess_at_the_cause():
    ref = oracle.reference(**oracle.draw(SwitchConfig(num_experts=4), 16, 4, 6))
    report = oracle.compare(ref, y=ref.y[:2], grads={"w_router": None})
    assert report.verdict == "fail" and not report.diagnosis
    assert "y has shape (2, 4), want (16, 4)" in str(report)
    assert "d_w_router is None: no gradient reaches it" in str(report)


def test_nothing_to_judge_is_an_error():
    ref = oracle.reference(**oracle.draw(SwitchConfig(num_experts=4), 16, 4, 6))
    for got in ({}, {"grads": {}}, {"y": None}):
        with pytest.raises(ValueError, match="compare needs something to judge"):
            oracle.assert_matches(ref, **got)
    with pytest.raises(TypeError, match="ref must be a Reference, got an array"):
        oracle.compare(ref.y, y=ref.y)


@pytest.mark.parametrize("top_k", [1, 2])
def test_whoever_follows_a_replayed_plan_is_right(top_k):
    asked = oracle.draw(SwitchConfig(num_experts=4, top_k=top_k, capacity_factor=1.0), 24, 4, 6)
    natural = oracle.reference(**asked).plan.expert
    drifted = (natural + 1) % 4                               # not the best experts of any token
    ref = oracle.reference(**asked, plan={"expert": drifted})
    assert oracle.compare(ref, y=ref.y, grads=ref.grads, expert=drifted, kept=ref.plan.kept).ok
    other = drifted.copy()
    other[5] = (other[5] + 1) % 4
    report = oracle.compare(ref, y=ref.y, expert=other)
    assert report.verdict == "fail" and "wrong, as token 5: got" in str(report)


@pytest.mark.parametrize(("given", "message"), [
    (lambda p: {"plan": p, "expert": p.expert}, "plan must come without expert, kept and slot"),
    (lambda p: {"plan": {"expert": p.expert, "keep": p.kept}}, "keys .'expert', 'keep'."),
    (lambda p: {"plan": {"kept": p.kept}}, "keys .'kept'."),
    (lambda p: {"expert": p.expert, "kept": np.c_[p.kept, p.kept]}, "kept must hold 2 choices"),
    (lambda p: {"expert": p.expert, "slot": p.slot[:, :1]}, "slot must hold 2 choices"),
    (lambda p: {"expert": p.expert.T}, "expert must have a row for each of 32 tokens"),
])
def test_decisions_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        oracle.compare(REF, y=REF.y, **given(REF.plan))


@pytest.mark.parametrize("name", ["x", "d_y", "w_in", "w_router"])
def test_a_reference_of_numbers_that_are_none_is_refused(name):
    asked = problem()
    where = asked["params"] if name.startswith("w") else asked
    where[name] = where[name].copy()
    where[name].flat[3] = np.nan
    with pytest.raises(ValueError, match=f"{name}.* must be finite, got nan"):
        oracle.reference(**asked)
