"""databricks/megablocks: tests/layers: one expert is a dense network; dropless has no limit."""

import numpy as np
import pytest
from peers.layers import like, random_layer

import switch_np as snp
from switch_np.operations import gradcheck


def dense(x, w_in, w_out):
    h = x @ w_in
    return .5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + .044715 * h ** 3))) @ w_out


def test_one_expert_is_a_dense_network(rng):
    config = like("megablocks", 1, top_k=1)
    params, x = random_layer(config, 8, 6), rng.standard_normal((4, 3, 8))
    own = {name: params[name][0] for name in ("w_in", "w_out")}
    out, cache = snp.switch_layer.forward(params, x, config)
    np.testing.assert_allclose(out.y, dense(x, **own), rtol=1e-11, atol=1e-14)
    _, grads = snp.switch_layer.backward(np.ones_like(x), cache)
    for name in own:
        want = gradcheck.complex_step(lambda w, n=name: dense(x, **own | {n: w}).sum(), own[name])
        np.testing.assert_allclose(grads[name][0], want, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("e, k", [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 2), (4, 4), (8, 8)])
def test_no_limit_is_a_limit_that_nobody_meets(e, k, rng):
    x, results = rng.standard_normal((16, 4, 16)), []
    for room in {"capacity_factor": None}, {"capacity": 64, "layout": "buffers"}:
        config = like("megablocks", e, top_k=k, **room)
        out, cache = snp.switch_layer.forward(random_layer(config, 16, 16), x, config)
        results.append({"y": out.y, **snp.switch_layer.backward(x, cache, 1.0, 1e-3)[1]})
    for name, value in results[0].items():
        np.testing.assert_allclose(value, results[1][name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_weights_are_divided_by_a_norm(power, rng):
    config = like("megablocks", 4, top_k=3, renorm="pre", renorm_power=power, capacity_factor=None)
    out, _ = snp.switch_layer.forward(random_layer(config), rng.standard_normal((6, 12)), config)
    np.testing.assert_allclose(np.linalg.norm(out.gates, power, axis=1), 1, rtol=1e-12)
