"""The noise model: scales, zeros, floors, and agreement with kernels that really round."""

import numpy as np
import pytest
from oracle.problems import judged, nudged, of_museum, problem

from switch_np import SwitchConfig, oracle
from switch_np.conventions.table import Conventions
from switch_np.oracle.explain import museum
from switch_np.oracle.judge.tensor import deviations
from switch_np.oracle.truth import rounding

CONFIG = SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0)
ASKED, REF = problem(CONFIG)


def with_small_upstream(asked):
    return oracle.reference(**asked | {
        key: asked[key] * 2.0 ** -20 for key in ("d_y", "balance_coef", "z_coef")})


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16"])
def test_sigma_scales_exactly_with_the_upstream(name):
    less = with_small_upstream(ASKED).sigma(name)
    for key, value in REF.sigma(name).items():
        factor = 2.0 ** -20 if key.startswith("d_") else 1.0
        assert (less[key] == value * factor).all(), key


def test_below_the_normal_range_sigma_stops_shrinking():
    asked, _ = problem(CONFIG, precision="float16")
    sigma = with_small_upstream(asked).sigma("float16")["d_w_in"]
    assert sigma[sigma > 0].min() >= 2.0 ** -24


def test_sigma_is_zero_just_where_the_mathematics_has_zeros():
    _, ref = problem(CONFIG, padding=4, unused=1, seed=2)
    sigma = ref.sigma("float32")
    assert (sigma["y"][~ref.plan.kept.any(axis=1)] == 0).all()
    assert (sigma["d_x"][-4:] == 0).all()
    assert (sigma["d_w_in"][3] == 0).all() and (sigma["d_w_out"][3] == 0).all()
    for name, value in sigma.items():
        if name != "scores":
            assert (ref.outputs()[name][value == 0] == 0).all(), name
    assert (sigma["d_w_router"] > 0).all()


def test_no_sigma_lies_far_below_its_row():
    sigma = REF.sigma("bfloat16")["d_w_router"]
    assert (sigma >= 0.29 * np.median(sigma, axis=1, keepdims=True)).all()


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16"])
def test_errors_of_a_kernel_that_rounds_are_of_the_size_of_sigma(name):
    for seed in range(2):
        asked, ref = problem(CONFIG, seed=seed, precision=name)
        given = of_museum(None, asked, name)
        report = judged(ref, given)
        assert report.ok, str(report)
        for tensor in report.tensors.values():
            assert tensor.worst < 8, str(report)
        truth, sigma = report.reference.outputs(), report.reference.sigma(name)
        z = np.concatenate([deviations(value, truth[key], sigma[key])[sigma[key] > 0]
                            for key, value in museum.flat(given).items()], axis=None)
        assert 0.05 < np.sqrt(np.mean(z ** 2)) < 1.5


def test_a_sign_within_the_noise_is_sampled_both_ways():
    """A rectifier's input of one rounding error: its gradient may be there or not."""
    asked, _ = problem(SwitchConfig(num_experts=1, capacity_factor=None))
    column = asked["params"]["w_in"][0, :, 0]
    asked = nudged(asked, 0, column)
    assert 0 < np.abs(asked["x"][0] @ column) < 1e-8
    sigma = oracle.reference(**asked).sigma("float32")["d_w_in"][0]
    assert sigma[:, 0].min() > 300 * np.median(sigma[:, 1:])


def test_a_limit_within_the_noise_is_sampled_both_ways():
    """A hidden unit just at its limit: its gradient may be there or not."""
    config = SwitchConfig.like("hf_mixtral", num_experts=1, top_k=1, expert_limit=50.0)
    asked, far = problem(config)
    for name in ("w_in", "w_gate"):
        unit = asked["params"][name][0, :, 0] @ asked["x"].T
        limit = float(abs(unit).max() if name == "w_in" else unit.max())
        near = oracle.reference(**asked | {"config": SwitchConfig.like(
            "hf_mixtral", num_experts=1, top_k=1, expert_limit=limit * (1 + 2e-7))})
        of_near, of_far = (ref.sigma("float32")[f"d_{name}"][0, :, 0] for ref in (near, far))
        assert of_near.min() > 1000 * of_far.max()


def test_what_is_counted_at_a_tie_is_sampled_both_ways():
    config = SwitchConfig.like("hf_deepseek_v3", num_experts=4, top_k=1, select_groups=1,
                               select_groups_kept=1, balance_counts="plain")
    asked, apart = problem(config)
    twins = asked["params"]["w_router"].copy()
    twins[:, 1] = twins[:, 0]
    ties = oracle.reference(**asked | {"params": asked["params"] | {"w_router": twins}})
    one, other = (ref.sigma("float32")["d_w_router"][:, 0].max() for ref in (ties, apart))
    assert one > 1000 * other


def test_the_peak_counts_what_lies_on_the_way():
    ref = oracle.reference(**ASKED | {"d_y": ASKED["d_y"] * 1e6})
    assert ref.rounding("float16").peak > 1e6
    assert rounding.SAMPLES == 12


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_experts_of_other_libraries_are_as_noisy_as_the_papers(name):
    same = SwitchConfig.like(
        "paper", num_experts=4, top_k=2, capacity_factor=1.0, slots="position")
    assert same.conventions != Conventions()
    ours, theirs = REF.sigma(name), oracle.reference(**ASKED | {"config": same}).sigma(name)
    for key in ("y", "d_x", "d_w_router", "d_w_in", "d_w_out"):
        some = ours[key] > 0
        ratio = np.median(theirs[key][some] / ours[key][some])
        assert 0.7 < ratio < 1.4, (key, ratio)


def test_the_gradient_of_hot_logits_may_go_by_log_z():
    """Automatic derivatives of logsumexp are exp(l - log_z), also where softmax is exact."""
    asked, _ = problem(SwitchConfig(num_experts=4, capacity_factor=None), precision="float32")
    hot = asked["params"] | {"w_router": asked["params"]["w_router"] * 32}
    asked = asked | {"d_y": 0 * asked["d_y"], "balance_coef": 0.0, "params": hot}
    x, w = (np.float32(value) for value in (asked["x"], asked["params"]["w_router"]))
    logits = x @ w
    highest = logits.max(axis=1, keepdims=True)
    log_z = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    d_logits = np.float32(2 * asked["z_coef"] / len(x)) * log_z * np.exp(logits - log_z)
    report = oracle.compare(oracle.reference(**asked), precision="float32",
                            grads={"x": d_logits @ w.T, "w_router": x.T @ d_logits})
    assert report.ok, str(report)
