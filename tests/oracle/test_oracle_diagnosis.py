"""Causes: only what differs from the truth and fits, with error bars, in all conventions."""

import numpy as np
import pytest

import switch_np as snp
from switch_np import oracle
from switch_np.oracle.explain import museum
from switch_np.oracle.explain.wording import factor_in_words

PLAIN = snp.SwitchConfig(num_experts=4, capacity_factor=1.0)
LOSSES = ("balance_loss", "z_loss")


def problem(config=PLAIN, **options):
    asked = oracle.draw(config, 32, d_model=8, d_ff=12, **options)
    return asked, oracle.reference(**asked)


def all_of(ref, **changed):
    """Return what a kernel gives that is right but for the gradients in `changed`."""
    return {"y": ref.y, "balance_loss": ref.balance_loss, "z_loss": ref.z_loss,
            "grads": {**ref.grads, **changed}}


def of_museum(name, asked, precision, decide=True):
    given = museum.run(name, **asked, precision=precision)
    said = ("y", *LOSSES, "grads") + ("expert", "kept") * decide
    return {key: given[key] for key in said} | {"precision": precision}


def without(ref, name, term, share=1.0):
    """Return a gradient that lacks a share of a term."""
    return ref.grads[name] - share * ref.terms[name][term]


def test_what_changes_nothing_is_no_cause():
    _, ref = problem(precision="float32")
    sigma, wrong = ref.sigma("float32")["d_w_out"], ref.grads["w_out"].copy()
    at = np.unravel_index(np.where(sigma > 0, sigma, 9).argmin(), sigma.shape)
    wrong[at] += 20 * sigma[at]
    report = oracle.compare(ref, grads={"w_out": wrong}, precision="float32")
    assert report.diagnosis == (f"unknown: d_w_out is wrong only in expert {at[0]}",)


def flipped(ref):
    """Return the experts with a legal flip of the last choice, in bfloat16."""
    k, ranked_TE = ref.plan.expert.shape[1], np.argsort(-ref.scores, axis=1)
    cut_T2 = np.take_along_axis(ref.scores, ranked_TE[:, k - 1:k + 1], axis=1)
    token = (cut_T2[:, 0] - cut_T2[:, 1]).argmin()
    expert = ref.plan.expert.copy()
    expert[token, -1] = ranked_TE[token, k]
    return expert


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


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("exhibit, words", [
    ("balance_gradient_without_e", "the balance loss's gradient is divided by 4 (E, the experts)"),
    ("z_gradient_without_2", "the z-loss's gradient is divided by 2"),
    ("balance_counts_after_drop", "f counts what is left after drops"),
    ("gate_gradient_killed", "does not reach the router through the gates")])
def test_a_factor_has_error_bars_and_the_right_name(exhibit, words, precision):
    asked, ref = problem(precision=precision)
    report = oracle.compare(ref, **of_museum(exhibit, asked, precision))
    assert words in report.diagnosis[0] and len(report.diagnosis) <= 5
    assert "coefficient" not in report.diagnosis[0] and "0.49" not in report.diagnosis[0]


def test_a_factor_is_named_where_its_bar_allows_and_all_that_it_may_be_are_said():
    _, ref = problem(padding=5)
    def name(c, bar, term=None):
        return factor_in_words(c, bar, term, ref)
    assert name(0.2501, 1e-3) == (0.25, "divided by 4 (E, the experts)")
    assert name(0.25, 1e-3, "z")[1].endswith("(E, the experts), or multiplied by 0.25 "
                                             "(the z coefficient)")
    assert name(0.27, 0.09, "balance") == (
        0.25, "divided by 4 (E, the experts) (fitted: 0.27 ± 0.09)")
    assert name(0.5, 1e-3, "balance")[1] == "divided by 2, or multiplied by 0.5 " \
        "(the balance coefficient)"
    assert name(0.5, 1e-3, "z") == name(0.5, 1e-3) == (0.5, "divided by 2")
    assert name(27 / 32, 1e-3, "z")[1] == "multiplied by 0.8438 (the share of tokens that are real)"
    assert name(0.4, 0.2)[1] == ("0.4 ± 0.2 times the right one: divided by 2, or divided by 4 (E, "
                                 "the experts)")
    assert name(0.01, 0.02) == (0.0, "missing") and name(-1, 0.01) == (-1.0, "of the wrong sign")
    assert name(1.3, 0.1)[1] == "1.3 ± 0.1 times the right one"
    assert name(1.004, 1e-3)[1] == ""


def test_d_x_is_not_said_to_lack_what_reaches_the_router():
    _, ref = problem()
    report = oracle.compare(ref, **all_of(ref, x=without(ref, "x", "balance")))
    assert report.diagnosis[0] == ("d_x = 1.00·experts + 1.00·gate + 0.00·balance + 1.00·z: in d_x "
                                   "alone, for d_w_router has the right ones")
    both = all_of(ref, **{name: without(ref, name, "balance") for name in ("x", "w_router")})
    assert "does not reach the router" in oracle.compare(ref, **both).diagnosis[0]


def test_a_mean_over_all_tokens_is_told_by_the_share_that_is_real():
    _, ref = problem(padding=5)
    got = all_of(ref, **{name: without(ref, name, "z", 5 / 32) for name in ("x", "w_router")})
    causes = oracle.compare(ref, **got | {"z_loss": ref.z_loss * 27 / 32}).diagnosis
    assert causes[0] == "z_loss is multiplied by 0.8438 (the share of tokens that are real)"
    assert "the z-loss's gradient is multiplied by 0.8438" in causes[1]


def test_a_coefficient_that_the_conventions_switch_off_is_noted():
    _, ref = problem(snp.SwitchConfig.like("hf_mixtral", num_experts=4))
    report = oracle.compare(ref, **all_of(ref))
    assert report.ok and report.notes == ('z_coef=0.25 has no effect: z_when is "never"',)
    _, on = problem(snp.SwitchConfig.like("hf_mixtral", num_experts=4, z_when="always"))
    report = oracle.compare(ref, **all_of(on))
    assert report.diagnosis == ("as with z_when='always', want 'never'",)
    _, ref = problem(snp.SwitchConfig.like("mesh_tf", num_experts=4))
    assert oracle.compare(ref, y=ref.y).notes == (
        'z_coef=0.25 has no effect: z_when is "training", and training is False',)
    rules = {"balance_counts": "none"}
    _, ref = problem(snp.SwitchConfig.like("paper", num_experts=4, **rules))
    assert oracle.compare(ref, y=ref.y).notes == (
        'balance_coef=0.5 has no effect: balance_counts is "none"',)


@pytest.mark.parametrize("exhibit", ["balance_counts_after_drop", "drops_the_earliest"])
def test_the_museum_knows_rows_of_tokens_too(exhibit):
    asked, _ = problem()
    got = of_museum(exhibit, asked, "float64", decide=False)
    rows = {name: asked[name].reshape(2, 16, 8) for name in ("x", "d_y")}
    ref = oracle.reference(**asked | rows)
    assert oracle.compare(ref, **got).diagnosis[0].startswith(museum.EXHIBITS[exhibit].what)


def test_the_museum_follows_a_kernel_at_near_ties():
    asked, ref = problem(snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0),
                         precision="bfloat16")
    expert = flipped(ref)
    given = museum.run("drops_the_earliest", **asked, expert=expert, precision="bfloat16")
    report = oracle.compare(ref, **{name: given[name] for name in (
        "y", *LOSSES, "grads", "expert", "kept")}, precision="bfloat16")
    assert report.routing.ok and "1 legal flip" in str(report)
    assert report.diagnosis[0].startswith(museum.EXHIBITS["drops_the_earliest"].what)


@pytest.mark.parametrize("config, other, words", [
    (("hf_mixtral", {}), {"renorm": "none"}, "as with renorm='none', want 'pre'"),
    (("st_moe", {}), {"balance_when": "always"}, "as with balance_when='always', want 'training'"),
    (("labml", {}), {"dropped": "zero"}, "as with dropped='zero', want 'gated_identity'"),
    (("paper", {"capacity": 7}), {"capacity": 8}, "as with 8 slots per expert, want 7")])
def test_other_conventions_are_recognised(config, other, words):
    name, options = config
    batch = {"batch": 2} if name in ("st_moe", "labml") else {}
    asked, ref = problem(snp.SwitchConfig.like(name, num_experts=4, **options), **batch)
    config = snp.SwitchConfig.like(name, num_experts=4, **options | other)
    got = oracle.reference(**asked | {"config": config})
    assert oracle.compare(ref, **all_of(got)).diagnosis[0] == words
    decided = {"expert": got.plan.expert, "kept": got.plan.kept}
    assert oracle.compare(ref, **all_of(got), **decided).diagnosis[0] == words


def test_weights_in_another_layout_are_recognised():
    asked, ref = problem(snp.SwitchConfig.like("hf_mixtral", num_experts=4))
    w = asked["params"]
    got = oracle.reference(**asked | {
        "params": {**w, "w_gate": w["w_in"], "w_in": w["w_gate"]}})
    swapped = all_of(got, w_gate=got.grads["w_in"], w_in=got.grads["w_gate"])
    assert oracle.compare(ref, **swapped).diagnosis == ("w_gate and w_in are swapped",)
    asked = oracle.draw(PLAIN, 32, d_model=4, d_ff=12)
    ref, w = oracle.reference(**asked), asked["params"]
    got = oracle.reference(**asked | {"params": {**w, "w_router": w["w_router"].T}})
    turned = all_of(got, w_router=got.grads["w_router"].T)
    assert oracle.compare(ref, **turned).diagnosis == ("w_router is used transposed",)
    report = oracle.compare(ref, **turned, expert=got.plan.expert)
    assert report.diagnosis[0] == "w_router is used transposed" and len(report.diagnosis) == 2


@pytest.mark.parametrize("name", ["paper", "labml"])
def test_a_gradient_of_dropped_tokens_is_named(name):
    small, large = (snp.SwitchConfig.like(name, num_experts=4, capacity=n) for n in (5, 32))
    asked, ref = problem(small, **{"batch": 2} if name == "labml" else {})
    roomy = oracle.reference(**asked | {"config": large})
    report = oracle.compare(ref, **all_of(ref, w_in=roomy.grads["w_in"]))
    assert report.diagnosis == ("d_w_in: dropped choices send a gradient too",)


def test_digits_that_differ_are_printed_and_experts_are_counted():
    _, ref = problem()
    got = all_of(ref, w_in=ref.grads["w_in"].astype(np.float32))
    got["y"] = ref.y.astype(np.float32)
    report = oracle.compare(ref, **got, precision="float64")
    text = str(report)
    assert "only tokens of all experts" in text and "passes as float32: is something" in text
    for line in text.splitlines():
        if line.startswith("  numbers"):
            got, want = line.partition("got ")[2].partition(";")[0].split(", want ")
            assert got != want and len(got) < 13
    wrong = ref.grads["w_in"] + (np.arange(4) < 2)[:, None, None]
    assert "only expert 0, 1" in str(oracle.compare(ref, grads={"w_in": wrong}))


def test_what_is_wrong_everywhere_is_not_blamed_on_experts_without_tokens():
    _, ref = problem(unused=1)
    wrong = ref.grads["w_in"] + 0.1 * np.random.default_rng(0).standard_normal((4, 8, 12))
    assert oracle.compare(ref, grads={"w_in": wrong}).diagnosis == ("unknown: d_w_in is wrong",)
    stale = ref.grads["w_in"] + (np.arange(4) == 3)[:, None, None]
    assert "not zero for experts" in oracle.compare(ref, grads={"w_in": stale}).diagnosis[0]


@pytest.mark.parametrize("name", ["fairseq", "hf_deepseek_v3", "nanomoe"])
def test_any_conventions_are_diagnosed_without_a_warning(name):
    config = snp.SwitchConfig.like(name, num_experts=8)
    asked = oracle.draw(config, 24, d_model=6, d_ff=5, padding=2, seed=1, training=True,
                        precision="float32")
    ref = oracle.reference(**asked)
    report = oracle.compare(ref, y=ref.y + 1, precision="float32")
    assert report.diagnosis[0].startswith("unknown: y is wrong")
