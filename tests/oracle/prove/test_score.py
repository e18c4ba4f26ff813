"""`oracle.score` tells which bugs a test would let through."""

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle
from switch_np.oracle.explain import museum

PADDED = SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.9)
OPEN = SwitchConfig(num_experts=4, top_k=2, capacity_factor=2.0)
ASKED = oracle.draw(PADDED, 28, 8, 8, seed=3, padding=5, unused=1)
TRUTH = oracle.reference(**ASKED)


def thorough(layer):
    given = layer(**ASKED)
    return oracle.compare(
        TRUTH, y=given["y"], balance_loss=given["balance_loss"], z_loss=given["z_loss"],
        grads=given["grads"], expert=given["expert"], kept=given["kept"], complete=True).ok


def test_a_thorough_test_catches_everything():
    score = oracle.score(thorough)
    assert set(score.caught) | set(score.unseen) == {
        "all zeros", "all NaN", "the batch permuted", "the last row lost", *museum.EXHIBITS} - set(
            score.missed)
    assert score.missed == () and len(score.unseen) <= 1, str(score)


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
    text = str(score)
    assert "let through  all zeros" in text
    assert "let through  dx_forgotten: d_x lacks what comes back through the experts" in text

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
