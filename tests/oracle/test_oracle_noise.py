"""The noise model: scales, zeros, floors, and agreement with kernels that really round."""

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle
from switch_np.oracle import museum, noise, verdict


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
        z = np.concatenate([verdict.deviations(value, truth[key], sigma[key])[sigma[key] > 0]
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
    assert noise.SAMPLES == 12
