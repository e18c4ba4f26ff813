"""The loss of distillation."""

import numpy as np

from switch_np.experiments import soft_cross_entropy
from switch_np.operations import gradcheck


def test_soft_cross_entropy_against_the_complex_step():
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((5, 7)), rng.dirichlet(np.ones(7), 5)
    target[2] *= 0.5                                  # need not sum to 1
    gradcheck.check_backward(
        lambda inputs: soft_cross_entropy.forward(inputs["logits"], target),
        lambda d_loss, cache: {"logits": soft_cross_entropy.backward(d_loss, cache)},
        {"logits": logits}, rng)


def test_the_mixed_loss_is_its_two_parts():
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    teacher = rng.dirichlet(np.ones(5), 6)
    parts = [soft_cross_entropy.forward(logits, soft_cross_entropy.mixed_targets(
        targets, teacher, share))[0] for share in (0.0, 1.0, 0.25)]
    np.testing.assert_allclose(parts[2], 0.75 * parts[0] + 0.25 * parts[1])
