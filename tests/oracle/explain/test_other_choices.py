"""Kernels that choose other experts from the same scores are recognised, told or not."""

import numpy as np
import pytest
from oracle.explain.kernels import all_of

import switch_np as snp
from switch_np import oracle
from switch_np.operations.precision import round_to

CONFIG = snp.SwitchConfig.like("hf_deepseek_v3", num_experts=8, top_k=2, select_groups=4,
                               select_groups_kept=2)


def problem(bias):
    asked = oracle.draw(CONFIG, 64, d_model=8, d_ff=12, precision="float32")
    asked["params"]["select_bias"] = bias(asked["params"]["select_bias"])
    return asked, oracle.reference(**asked)


def best(scores, k=2):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def in_open_groups(scores, by_group, closed):
    """Return scores with those of all but the two best groups replaced."""
    open_TE = np.zeros(scores.shape, bool)
    for t, groups in enumerate(best(by_group)):
        for g in groups:
            open_TE[t, 2 * g:2 * g + 2] = True
    return np.where(open_TE, scores, closed)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("bias, choose, words", [
    (lambda b: b - 1.5, lambda s, b: best(in_open_groups(s + b, (s + b).reshape(
        64, 4, 2).sum(axis=2), 0.0)), "closed groups of experts score 0"),
    (lambda b: b, lambda s, b: best(s + b), "experts are chosen without regard to groups"),
    (lambda b: b, lambda s, b: best(in_open_groups(s + b, (s + b).reshape(64, 4, 2).max(axis=2),
                                                   -np.inf)),
     ("a group scores as its best", "experts are chosen without regard")),    # the same here
    (lambda b: 2 * b, lambda s, b: best(in_open_groups(s, s.reshape(64, 4, 2).sum(axis=2),
                                                       -np.inf)), "the selection bias is left out"),
    (lambda b: 4.5 + b, lambda s, b: best(in_open_groups(
        s + round_to(b, "bfloat16"), (s + round_to(b, "bfloat16")).reshape(64, 4, 2).sum(axis=2),
        -np.inf)), "the selection bias is rounded to bfloat16"),
])
def test_another_choice_is_recognised(bias, choose, words, told):
    asked, ref = problem(bias)
    expert = choose(ref.probs, asked["params"]["select_bias"])
    assert (np.sort(expert) != np.sort(ref.plan.expert)).any()
    got = all_of(oracle.reference(**asked, plan=expert))
    report = oracle.compare(ref, **got, **{"expert": expert} if told else {})
    assert report.diagnosis[0].startswith(words), report


def test_a_choice_too_few_is_told_and_does_not_raise():
    _, ref = problem(lambda b: b)
    report = oracle.compare(ref, y=ref.y, expert=ref.plan.expert[:, :1])
    assert report.verdict == "fail"
    assert report.diagnosis[0] == "the kernel made 1 choice per token, want 2"


def test_the_plain_choice_is_counted_in_a_replayed_plan():
    """The loss of `plain_over_k` counts the best scores, also if the experts are handed in."""
    config = snp.SwitchConfig.like("hf_deepseek_v3", num_experts=8, top_k=2, select_groups=4,
                                   select_groups_kept=2, balance_counts="plain_over_k")
    asked = oracle.draw(config, 64, d_model=8, d_ff=12)
    ref = oracle.reference(**asked)
    again = oracle.reference(**asked, plan={"expert": ref.plan.expert})
    assert (again.plan.balance_count == ref.plan.balance_count).all()
    assert np.isclose(again.balance_loss, ref.balance_loss, rtol=1e-12)
