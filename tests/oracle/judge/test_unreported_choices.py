"""Near-ties: legal flips pass, told or inferred from y, and excuse nothing else."""

import numpy as np
import pytest
from oracle.problems import all_of, judged, nudged, problem

from switch_np import SwitchConfig, oracle
from switch_np.oracle.judge import judge_choices, unreported_choices


def near_ties(ref):
    return np.count_nonzero(ref.margin <= judge_choices.tau(ref, "bfloat16"))


def test_a_legal_flip_passes_and_is_printed():
    asked, ref = problem(SwitchConfig(num_experts=3, capacity_factor=1.0), d_ff=8, seed=5)
    first, second = np.argsort(-ref.probs[3])[:2]
    w = asked["params"]["w_router"]
    asked = nudged(asked, 3, w[:, first] - w[:, second])
    ref = oracle.reference(**asked)
    second = np.argsort(-ref.probs[3])[1]
    flipped = ref.plan.expert.copy()
    flipped[3] = second
    assert flipped[3] != ref.plan.expert[3]
    other = oracle.reference(**asked, plan=flipped)
    got = all_of(other) | {"precision": "float32"}
    report = oracle.compare(ref, **got, expert=flipped, kept=other.plan.kept)
    assert report.ok and "1 legal flip, such as token 3" in str(report)
    assert "tau" in str(report) and "own decisions" in report.notes[-1]
    inferred = judged(ref, got)                            # it did not say so, but its y does
    assert inferred.ok and "inferred from y: token 3" in inferred.notes[0]
    assert judged(ref, got, "grads", "precision").verdict == "undecided"
    with pytest.raises(oracle.NoVerdict):
        oracle.assert_matches(ref, grads=other.grads, precision="float32")
    none = {name: np.zeros_like(grad) for name, grad in other.grads.items()}
    wrong = oracle.compare(ref, grads=none, precision="float32")
    assert wrong.verdict == "fail" and "any legal flip" in wrong.notes[0]
    exact = judged(ref, got | {"precision": "float64", "expert": flipped})
    assert exact.verdict == "fail" and "wrong experts" in exact.routing_errors[0]


@pytest.mark.parametrize("given", ["y", "grads"])
def test_flips_do_not_excuse_what_no_flip_explains(given):
    """In bfloat16 some of 256 tokens always lie at near-ties."""
    _, ref = problem(SwitchConfig(num_experts=8, capacity_factor=1.0), 256, 16, 16,
                     precision="bfloat16")
    assert near_ties(ref) > unreported_choices.MOST
    for factor, verdict in ((1.0, "pass"), (0.0, "fail"), (1e9, "fail")):
        scaled = {name: grad * factor for name, grad in ref.grads.items()}
        got = {"y": ref.y * factor, "grads": scaled, "precision": "bfloat16"}
        assert judged(ref, got, given, "precision").verdict == verdict


def test_flips_that_did_not_happen_are_not_inferred():
    config = SwitchConfig.like("paper", num_experts=4, top_k=2, capacity_factor=1.0, renorm="pre")
    near = 0
    for seed in range(6):
        _, ref = problem(config, 64, seed=seed, precision="bfloat16")
        near += near_ties(ref)
        noise = np.random.default_rng(seed).standard_normal(ref.y.shape)
        report = oracle.compare(ref, y=ref.y + ref.sigma("bfloat16")["y"] * noise, grads=ref.grads,
                                precision="bfloat16")
        assert report.ok and not report.notes, str(report)
    assert near > 20


def test_a_right_y_confirms_the_experts():
    """One router's column twice: every token is at a tie, and which expert it took shows in y."""
    asked, _ = problem(tokens=64, precision="bfloat16")
    twice = asked["params"]["w_router"][:, [0, 0, 2, 3]]
    ref = oracle.reference(**asked | {"params": asked["params"] | {"w_router": twice}})
    wrong = {**ref.grads, "w_in": 2 * ref.grads["w_in"]}
    assert oracle.compare(ref, y=ref.y, grads=wrong, precision="bfloat16").verdict == "fail"
    assert oracle.compare(ref, grads=wrong, precision="bfloat16").verdict in ("fail", "undecided")
