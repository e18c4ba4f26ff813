"""`oracle.score` tells which bugs a test would let through."""

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, oracle
from switch_np.oracle.explain import museum

OPEN = SwitchConfig(num_experts=4, top_k=2, capacity_factor=2.0)
ASKED, TRUTH = problem(SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.9), 28, d_ff=8,
                       seed=3, padding=5, unused=1)
# Bugs that only layers with other conventions than the paper's can have.
OF_OTHERS = ("gates_from_biased_scores", "gates_not_renormalised", "gate_scale_missing",
             "shared_expert_missing", "shared_expert_reads_y", "output_bias_without_gate",
             "gate_and_up_swapped", "gate_and_up_interleaved")


def test_a_thorough_test_catches_everything():
    score = oracle.score(lambda layer: oracle.compare(TRUTH, **layer(**ASKED), complete=True).ok)
    assert {*score.caught, *score.unseen} == {
        "all zeros", "all NaN", "the batch permuted", "the last row lost", *museum.EXHIBITS}
    assert score.missed == () and {*score.unseen} <= {"the last row lost", *OF_OTHERS}, str(score)


def test_loose_tests_are_told_what_they_let_through():
    def like_many(layer):
        """A mean as upstream, a constant tolerance, small outputs, outputs alone."""
        small = {name: 0.1 * value for name, value in ASKED["params"].items()}
        given = layer(ASKED["x"], small, OPEN, d_y=np.ones_like(ASKED["x"]) / ASKED["x"].size)
        want = oracle.reference(ASKED["x"], small, OPEN).y
        np.testing.assert_allclose(given["y"], want, atol=2e-2)

    score = oracle.score(like_many)
    assert "all zeros" in score.missed and "all NaN" in score.caught
    assert "balance_gradient_discarded" in score.unseen      # no coefficient was handed in
    assert "dx_forgotten" in score.missed and "z_loss_counts_padding" in score.unseen
    assert "let through  all zeros" in str(score)
    assert ("let through  dx_forgotten: d_x lacks what comes back through the experts"
            in str(score))

    def errors_above(layer):
        given = layer(**ASKED)
        if (np.abs(given["y"] - TRUTH.y) > 1e-3).any():
            raise AssertionError

    assert "all NaN" in oracle.score(errors_above).missed     # NaN is not above anything


def test_skips_and_falsehoods_count():
    assert oracle.score(lambda layer: layer(**ASKED) is not None).caught == ()
    caught = oracle.score(lambda layer: bool(np.abs(layer(**ASKED)["y"]).max() < 1e9)).caught
    assert caught == ("all NaN",)

    def skips(layer):
        if not np.isfinite(layer(**ASKED)["y"]).all():
            pytest.skip("no number")

    assert oracle.score(skips).caught == ()
    with pytest.raises(ValueError, match="must accept the right layer"):
        oracle.score(lambda layer: False)


def test_layers_under_trial_take_half_precision():
    asked = {**ASKED, "x": ASKED["x"].astype(np.float16)}
    seen = []

    def test(layer):
        seen.append(layer(**asked)["y"])

    oracle.score(test)
    assert seen[0].dtype == np.float32
    assert (seen[0] == seen[0].astype(np.float16)).all()
