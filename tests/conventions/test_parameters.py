"""Every library's layer in a given precision: the router alone, the rest alone, or both."""

import numpy as np
import pytest

import switch_np as snp
from switch_np.conventions.libraries import PRESETS
from switch_np.conventions.parameters import ROUTER
from switch_np.operations import rounded
from switch_np.operations.precision import round_to


def on_grid(x):
    x = rounded.plain(x)
    return np.array_equal(round_to(np.array(x), "bfloat16"), x)


@pytest.mark.parametrize("name", [*PRESETS, "gpt_oss", "qwen2_moe"])
@pytest.mark.parametrize("experts, router", [
    ("bfloat16", "bfloat16"), ("bfloat16", None), (None, "bfloat16")])
def test_what_is_asked_for_is_rounded_and_nothing_else(name, experts, router, rng):
    config = snp.SwitchConfig.like(name, num_experts=8)
    params = snp.switch_layer.init(rng, 16, 16, config, dtype=np.float32)
    x, d_y = rng.standard_normal((2, 2, 24, 16)).astype(np.float32)
    padding = rng.random((2, 24)) < 0.2
    found = []
    for these in (snp.switch_layer.in_precision(params, experts, router), params):
        out, cache = snp.switch_layer.forward(
            these, x, config, plan=found[0][0].plan if found else None, padding=padding,
            rng=np.random.default_rng(1), training=True)
        d_x, grads = snp.switch_layer.backward(d_y, cache, 0.3, 0.1)
        found.append((out, {"y": out.y, "probs": out.probs, "x": d_x, **grads}))
    for key, value in found[0][1].items():
        wanted = router if key in (*ROUTER, "probs") else experts
        value, plain = rounded.plain(value), found[1][1][key]
        assert value.dtype == np.float32 and (on_grid(value) == bool(wanted) or not value.any())
        assert np.linalg.norm(value - plain) <= 0.2 * np.linalg.norm(plain), key


def test_other_precisions_are_refused(rng):
    params = snp.switch_layer.init(rng, 4, 5, snp.SwitchConfig())
    with pytest.raises(ValueError, match="experts must be one of 'bfloat16'"):
        snp.switch_layer.in_precision(params, "fp8", None)
