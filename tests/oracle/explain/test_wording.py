"""What explanations say."""

from oracle.explain.kernels import all_of, problem

import switch_np as snp
from switch_np import oracle
from switch_np.oracle.explain.wording import factor_in_words


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
