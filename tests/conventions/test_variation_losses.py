"""Importance and load losses: gradients by complex step, and the paper's own words as loops."""

import numpy as np
import pytest

from switch_np.conventions import variation_losses as losses
from switch_np.operations import gradcheck
from switch_np.operations.activations import normal_cdf

CONSTANTS = pytest.mark.parametrize("constants", [{}, {"ddof": 1, "eps": 1e-10}, {"eps": 0.3}])


@CONSTANTS
@pytest.mark.parametrize("shape", [(5, 4), (3, 1), (1, 6)])
def test_the_gradient_of_importance(constants, shape, rng):
    if constants.get("ddof") == shape[1]:
        constants = {}
    found = gradcheck.check_backward(
        lambda inputs: losses.importance(inputs["gates"], **constants),
        lambda d_loss, cache: {"gates": losses.importance_backward(float(d_loss), cache)},
        {"gates": rng.random(shape)}, rng)
    assert set(found) == {"gates"}


@CONSTANTS
@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_gradient_of_load(constants, leave_out, k, rng):
    clean, noise = rng.standard_normal((2, 6, 4))
    inputs = {"clean": clean, "noisy": clean + 0.3 * noise, "std": rng.random((6, 4)) + 0.3}
    gradcheck.check_backward(
        lambda given: losses.load(given["clean"], given["noisy"], given["std"], k,
                                  leave_out=leave_out, **constants),
        lambda d_loss, cache: dict(zip(inputs, losses.load_backward(float(d_loss), cache))),
        inputs, rng)


@pytest.mark.parametrize("leave_out", [False, True])
def test_load_is_the_chance_to_be_among_the_best_again(leave_out, rng):
    """Equation 9 of 2017: the threshold is the k-th largest of the noisy logits but one's own."""
    clean, std, k = rng.standard_normal((5, 4)), rng.random((5, 4)) + 0.2, 2
    noisy = clean + std * rng.standard_normal((5, 4))
    chance = np.zeros(4)
    for t in range(5):
        for e in range(4):
            others = np.delete(noisy[t], e) if leave_out else noisy[t]
            u = (clean[t, e] - np.sort(others)[-k]) / std[t, e]
            chance[e] += float(normal_cdf(np.array([u]))[0])
    want = np.var(chance) / np.mean(chance) ** 2
    assert float(losses.load(clean, noisy, std, k, leave_out=leave_out)[0]) == pytest.approx(
        want, rel=1e-12)
    one, many = (losses.load(clean, noisy, each, k)[0] for each in (0.7, np.full((5, 4), 0.7)))
    assert one == many


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_precision_stays_and_nothing_is_divided_by_zero(dtype):
    for gates in (np.zeros((3, 2), dtype), np.ones((3, 1), dtype), np.zeros((0, 4), dtype)):
        loss, cache = losses.importance(gates)
        d_gates = losses.importance_backward(1.0, cache)
        assert loss == 0 and loss.dtype == d_gates.dtype == dtype and not d_gates.any()
    found, cache = losses.load(np.eye(3, dtype=dtype), np.eye(3, dtype=dtype), 0.5, 2, eps=1e-10)
    assert {found.dtype, *(value.dtype for value in losses.load_backward(1.0, cache))} == {
        np.dtype(dtype)}


CLEAN = np.eye(3)


@pytest.mark.parametrize("call, message", [
    (lambda: losses.importance(np.ones(3)), r"gates_TE must have shape \(T, E\)"),
    (lambda: losses.importance(CLEAN, ddof=3), "ddof must be below 3"),
    (lambda: losses.importance(CLEAN, eps=-1.0), "eps must be finite, at least 0"),
    (lambda: losses.load(CLEAN, CLEAN[:2], 1.0, 1), r"noisy_TE must have shape \(3, 3\)"),
    (lambda: losses.load(CLEAN, CLEAN, 0.0, 1), r"std must be above 0, got 0\.0"),
    (lambda: losses.load(CLEAN, CLEAN, "a", 1), "std must be a number, got 'a'"),
    (lambda: losses.load(CLEAN, CLEAN, 1.0, 4), "k must be below 4, got 4"),
    (lambda: losses.load(CLEAN, CLEAN, 1.0, 3, leave_out=True), "k must be below 3, got 3")])
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
