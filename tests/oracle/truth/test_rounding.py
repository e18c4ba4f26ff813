"""The noise model: scales, zeros, floors, and agreement with kernels that really round."""

import math

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle
from switch_np.conventions.table import Conventions
from switch_np.operations import activations
from switch_np.oracle.explain import museum
from switch_np.oracle.judge.tensor import deviations
from switch_np.oracle.truth import rounding, roundoff
from switch_np.oracle.truth.rounding_array import rough_class


def problem(config=None, **options):
    config = config or SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0)
    return oracle.draw(config, 32, d_model=8, d_ff=12, **options)


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16"])
def test_sigma_scales_exactly_with_the_upstream(name):
    asked = problem()
    small = asked | {key: asked[key] * 2.0 ** -20 for key in ("d_y", "balance_coef", "z_coef")}
    sigma, less = (oracle.reference(**p).sigma(name) for p in (asked, small))
    for key, value in sigma.items():
        factor = 2.0 ** -20 if key.startswith("d_") else 1.0
        assert (less[key] == value * factor).all(), key


def test_below_the_normal_range_sigma_stops_shrinking():
    asked = problem(precision="float16")
    small = asked | {key: asked[key] * 2.0 ** -20 for key in ("d_y", "balance_coef", "z_coef")}
    sigma = oracle.reference(**small).sigma("float16")["d_w_in"]
    assert sigma[sigma > 0].min() >= 2.0 ** -24


def test_sigma_is_zero_just_where_the_mathematics_has_zeros():
    asked = problem(padding=4, unused=1, seed=2)
    ref = oracle.reference(**asked)
    sigma = ref.sigma("float32")
    assert (sigma["y"][~ref.plan.kept.any(axis=1)] == 0).all()
    assert (sigma["d_x"][-4:] == 0).all()
    assert (sigma["d_w_in"][3] == 0).all() and (sigma["d_w_out"][3] == 0).all()
    for name, value in sigma.items():
        if name != "scores":
            assert (ref.outputs()[name][value == 0] == 0).all(), name
    assert (sigma["d_w_router"] > 0).all()


def test_no_sigma_lies_far_below_its_row():
    sigma = oracle.reference(**problem()).sigma("bfloat16")["d_w_router"]
    assert (sigma >= 0.29 * np.median(sigma, axis=1, keepdims=True)).all()


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16"])
def test_errors_of_a_kernel_that_rounds_are_of_the_size_of_sigma(name):
    for seed in range(6):
        asked = problem(seed=seed, precision=name)
        ref = oracle.reference(**asked)
        given = museum.run(None, **asked, precision=name)
        report = oracle.compare(ref, y=given["y"], grads=given["grads"], expert=given["expert"],
                                balance_loss=given["balance_loss"], z_loss=given["z_loss"],
                                precision=name)
        assert report.ok, str(report)
        for tensor in report.tensors.values():
            assert tensor.worst < 8, str(report)
        truth, sigma = report.reference.outputs(), report.reference.sigma(name)
        z = np.concatenate([deviations(value, truth[key], sigma[key])[sigma[key] > 0]
                            for key, value in museum.flat(given).items()], axis=None)
        assert 0.05 < np.sqrt(np.mean(z ** 2)) < 1.5


def test_a_sign_within_the_noise_is_sampled_both_ways():
    """A rectifier's input of one rounding error: its gradient may be there or not."""
    asked = problem(SwitchConfig(num_experts=1, capacity_factor=None))
    x = asked["x"].copy()
    column = asked["params"]["w_in"][0, :, 0]
    x[0] -= column * ((x[0] @ column) * (1 - 1e-9) / (column @ column))
    ref = oracle.reference(**asked | {"x": x})
    before = np.abs(x[0] @ column)
    assert 0 < before < 1e-8
    sigma = ref.sigma("float32")["d_w_in"][0]
    assert sigma[:, 0].min() > 300 * np.median(sigma[:, 1:])


def test_the_peak_counts_what_lies_on_the_way():
    asked = problem()
    ref = oracle.reference(**asked | {"d_y": asked["d_y"] * 1e6})
    assert ref.rounding("float16").peak > 1e6
    assert rounding.SAMPLES == 12


def rough(array):
    given = array.copy().view(rough_class(roundoff.named("float32"), np.random.default_rng(0)))
    given.given = True
    return given


def test_a_product_into_an_array_is_in_doubt_too():
    a, b = rough(np.ones((2, 3))), rough(np.ones((3, 4)))
    into = np.empty_like(a, shape=(2, 4))
    assert (np.matmul(a, b, out=into).doubt == (a @ b).doubt).all()


def test_the_cumulative_normal_is_as_inexact_as_that_of_other_libraries():
    """All take (1 + erf) / 2, whose small numbers are differences of large ones."""
    x = np.linspace(-5, 3, 400).astype(np.float32)
    erf = np.float32([math.erf(value) for value in x / np.sqrt(np.float32(2))])
    usual = np.float32(0.5) * x * (1 + erf)
    want = activations.forward("gelu", x.astype(float))
    samples = activations.forward("gelu", rough(np.repeat(x[:, None].astype(float), 100, axis=1)))
    sigma = np.sqrt(np.mean((np.asarray(samples) - want[:, None]) ** 2, axis=1))
    z = (usual - want) / sigma
    assert np.abs(z).max() < 6 and np.sqrt(np.mean(z ** 2)) < 1.5


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_experts_of_other_libraries_are_as_noisy_as_the_papers(name):
    asked = problem()
    same = SwitchConfig.like(
        "paper", num_experts=4, top_k=2, capacity_factor=1.0, slots="position")
    assert same.conventions != Conventions()
    ours, theirs = (oracle.reference(**asked | {"config": config}).sigma(name)
                    for config in (asked["config"], same))
    for key in ("y", "d_x", "d_w_router", "d_w_in", "d_w_out"):
        value = ours[key]
        some = value > 0
        ratio = np.median(theirs[key][some] / value[some])
        assert 0.7 < ratio < 1.4, (key, ratio)


def test_the_gradient_of_hot_logits_may_go_by_log_z():
    """Automatic derivatives of logsumexp are exp(l - log_z), also where softmax is exact."""
    asked = problem(SwitchConfig(num_experts=4, capacity_factor=None), precision="float32")
    asked |= {"d_y": np.zeros_like(asked["d_y"]), "balance_coef": 0.0,
              "params": asked["params"] | {"w_router": asked["params"]["w_router"] * 32}}
    x, w = (np.float32(value) for value in (asked["x"], asked["params"]["w_router"]))
    logits = x @ w
    highest = logits.max(axis=1, keepdims=True)
    log_z = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    d_logits = np.float32(2 * asked["z_coef"] / len(x)) * log_z * np.exp(logits - log_z)
    report = oracle.compare(oracle.reference(**asked), precision="float32",
                            grads={"x": d_logits @ w.T, "w_router": x.T @ d_logits})
    assert report.ok, str(report)
