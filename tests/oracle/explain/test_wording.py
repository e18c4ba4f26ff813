"""What explanations say."""

import pytest
from oracle.problems import all_of, judged, problem

from switch_np import SwitchConfig, oracle
from switch_np.oracle.explain.wording import factor_in_words


def test_a_factor_is_named_where_its_bar_allows_and_all_that_it_may_be_are_said():
    asked, _ = problem(padding=5)
    ref = oracle.reference(**asked | {"balance_coef": 0.5, "z_coef": 0.25})

    def name(c, bar, term=None):
        return factor_in_words(c, bar, term, ref)

    assert name(0.2501, 1e-3) == (0.25, "divided by 4 (E, the experts)")
    assert name(0.25, 1e-3, "z")[1].endswith(
        "(E, the experts), or multiplied by 0.25 (the z coefficient)")
    assert name(0.27, 0.09, "balance") == (
        0.25, "divided by 4 (E, the experts) (fitted: 0.27 ± 0.09)")
    assert name(0.5, 1e-3, "balance")[1] == (
        "divided by 2, or multiplied by 0.5 (the balance coefficient)")
    assert name(0.5, 1e-3, "z") == name(0.5, 1e-3) == (0.5, "divided by 2")
    assert name(27 / 32, 1e-3, "z")[1] == "multiplied by 0.8438 (the fraction of real tokens)"
    assert name(0.4, 0.2)[1] == (
        "0.4 ± 0.2 times the right one: divided by 2, or divided by 4 (E, the experts)")
    assert name(0.01, 0.02) == (0.0, "missing") and name(-1, 0.01) == (-1.0, "of the wrong sign")
    assert name(1.3, 0.1)[1] == "1.3 ± 0.1 times the right one"
    assert name(1.004, 1e-3)[1] == ""


@pytest.mark.parametrize("name, rules, note", [
    ("hf_mixtral", {}, 'z_coef=0.25 has no effect: z_when is "never"'),
    ("mesh_tf", {}, 'z_coef=0.25 has no effect: z_when is "training", and training is False'),
    ("paper", {"balance_counts": "none"},
     'balance_coef=0.5 has no effect: balance_counts is "none"')])
def test_a_coefficient_that_the_conventions_switch_off_is_noted(name, rules, note):
    _, ref = problem(SwitchConfig.like(name, num_experts=4, **rules))
    assert oracle.compare(ref, y=ref.y).notes == (note,)


def test_a_z_loss_that_is_switched_off_and_computed_is_named():
    asked, never = problem(SwitchConfig.like("hf_mixtral", num_experts=4))
    config = SwitchConfig.like("hf_mixtral", num_experts=4, z_when="always")
    always = oracle.reference(**asked | {"config": config})
    report = judged(never, all_of(never))
    assert report.ok and len(report.notes) == 1
    assert judged(never, all_of(always)).diagnosis == (
        "computed with z_when='always', want 'never'",)
