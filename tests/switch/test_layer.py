"""The layer against its loops, under the complex step, and its invariants."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from judges import paper_loops as loops
from support import check_layer, layer_problem, random_config, same_decisions

import switch_np as snp
from switch_np.conventions.noise import Noise

CASES = {
    "switch": dict(num_experts=3, capacity_factor=1.0),
    "no limit": dict(num_experts=3, capacity_factor=None),
    "top 2": dict(num_experts=4, top_k=2, capacity_factor=1.0),
    "all experts": dict(num_experts=3, top_k=3, capacity_factor=None),
    "all experts, drops": dict(num_experts=3, top_k=3, capacity_factor=1.5),
    "one expert": dict(num_experts=1, capacity_factor=1.0),
    "all dropped": dict(num_experts=3, capacity=0), "bias": dict(num_experts=3, router_bias=True),
    "prime": dict(num_experts=7, top_k=2, capacity=1),
    "groups": dict(num_experts=3, groups=3, capacity_factor=0.7),
    "noise": dict(num_experts=3, top_k=2, router_dropout=0.3, sample=True, jitter=0.2,
                  expert_dropout=0.4)}


def agree(seed):
    """Compare a random layer with loops; return False where a tie hangs on rounding."""
    rng = np.random.default_rng(seed)
    config, (b, s) = random_config(rng)
    training = bool(rng.integers(2))
    params, x, padding, noise = layer_problem(
        seed, config, shape=(b, s), padded=rng.choice([0, 0.3]), training=training)
    if rng.integers(2) and x.size:
        x[0, -1] = x[0, 0]                                  # two tokens that are the same
    if rng.integers(2):
        params["w_router"][:, -1] = params["w_router"][:, 0]     # two experts that always tie
    out, _ = snp.switch_layer.forward(params, x, config, padding=padding, noise=noise,
                                      training=training)
    want = loops.forward(
        params, x.reshape(b * s, 5), config, num_groups=1 if config.groups == "all" else b,
        padding_T=None if padding is None else padding.ravel(),
        **({"noise": noise} if training else {}), training=training)
    if not same_decisions(out, want, config, params, noise=noise or Noise(), training=training,
                          padding_T=None if padding is None else padding.ravel()):
        return False
    for name in ("balance_loss", "z_loss", "probs", "logits", "gates"):
        np.testing.assert_allclose(getattr(out, name), getattr(want, name), rtol=1e-12, atol=1e-13,
                                   err_msg=name)
    np.testing.assert_allclose(out.y.reshape(want.y.shape), want.y, rtol=1e-12, atol=1e-12)
    return True


@pytest.mark.parametrize("seed", range(0, 300, 30))
def test_layer_equals_loops(seed):
    assert all(map(agree, range(seed, seed + 30)))


@pytest.mark.thorough
def test_ten_thousand_layers_equal_loops():
    assert sum(map(agree, range(1000, 11_000))) > 9900


def test_what_merely_flows_carries_nan_visibly():
    config = snp.SwitchConfig(num_experts=3)
    params, x, _, _ = layer_problem(0, config, training=False)
    for name in ("w_in", "w_out"):
        out, cache = snp.switch_layer.forward(params | {name: params[name] * np.nan}, x, config)
        assert np.isnan(out.y).any() and np.isfinite(out.probs).all()
        d_x, _ = snp.switch_layer.backward(np.ones_like(x), cache)
        assert np.isnan(d_x).any()
    d_x, _ = snp.switch_layer.backward(x * np.nan, snp.switch_layer.forward(params, x, config)[1])
    assert np.isnan(d_x).any()


def test_logits_that_overflow_are_refused():
    """Every number that came is finite, and no warning of NumPy's comes first."""
    config = snp.SwitchConfig(num_experts=3)
    params, x, _, _ = layer_problem(0, config, training=False)
    for conventions in (config, snp.SwitchConfig.like("mesh_tf", num_experts=3)):
        with pytest.raises(ValueError, match="logits must be finite"):
            snp.switch_layer.forward(params | {"w_router": params["w_router"] * 1e200}, x * 1e200,
                                     replace(config, conventions=conventions.conventions))


@pytest.mark.parametrize("name, layout, padded", [
    *((name, "packed", 0.3) for name in CASES),
    *(pytest.param(name, "buffers", 0.0, marks=() if name in ("top 2", "all dropped", "groups")
                   else pytest.mark.thorough) for name in CASES)])
def test_gradients_by_complex_step(name, layout, padded):
    config = snp.SwitchConfig(**CASES[name], layout=layout)
    plan = check_layer(3, config, padded=padded)
    if "drop" in name or "prime" in name:
        assert plan.dropped_fraction > 0


def test_gradients_in_evaluation_with_all_noise_configured():
    check_layer(0, snp.SwitchConfig(**CASES["noise"]), training=False)


@pytest.mark.parametrize("shape", [(0,), (1,), (13,), (2, 5)])
def test_gradients_of_other_shapes(shape):
    rows = "rows" if len(shape) == 2 else "all"
    check_layer(0, snp.SwitchConfig(num_experts=4, groups=rows, min_capacity=1), shape=shape)


def test_no_tokens_give_zeros():
    config = snp.SwitchConfig(num_experts=3)
    params, x, _, _ = layer_problem(0, config, shape=(0,), training=False)
    out, cache = snp.switch_layer.forward(params, x, config)
    d_x, grads = snp.switch_layer.backward(x, cache, 1.0, 1.0)
    assert out.balance_loss == 0 and out.z_loss == 0 and out.plan.dropped_fraction == 0
    assert out.y.shape == d_x.shape == x.shape and not any(g.any() for g in grads.values())


def test_permuting_the_experts_permutes_everything():
    config = snp.SwitchConfig(num_experts=5, top_k=2, capacity_factor=1.0)
    params, x, _, _ = layer_problem(1, config, shape=(40,), training=False)
    order = np.random.default_rng(0).permutation(5)
    moved = {"w_router": params["w_router"][:, order], "w_in": params["w_in"][order],
             "w_out": params["w_out"][order]}
    out, cache = snp.switch_layer.forward(params, x, config)
    out_2, cache_2 = snp.switch_layer.forward(moved, x, config)
    np.testing.assert_array_equal(order[out_2.plan.expert], out.plan.expert)
    np.testing.assert_allclose(out_2.y, out.y, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(out_2.balance_loss, out.balance_loss, rtol=1e-13)
    d_x, grads = snp.switch_layer.backward(x, cache, 1.0, 1.0)
    d_x_2, grads_2 = snp.switch_layer.backward(x, cache_2, 1.0, 1.0)
    np.testing.assert_allclose(d_x_2, d_x, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(grads_2["w_in"], grads["w_in"][order], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("top_k", [1, 2])
def test_both_layouts_agree(top_k):
    config = snp.SwitchConfig(num_experts=5, top_k=top_k, capacity_factor=1.0, groups=2,
                              expert_dropout=0.3)
    params, x, padding, noise = layer_problem(4, config, shape=(30,), padded=0.1)
    results = []
    for layout in ("packed", "buffers"):
        out, cache = snp.switch_layer.forward(
            params, x, replace(config, layout=layout), padding=padding, noise=noise, training=True)
        results.append((out.y, *snp.switch_layer.backward(x, cache, 0.5, 0.5)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-12, atol=1e-12)
    for name, value in results[0][2].items():
        np.testing.assert_allclose(value, results[1][2][name], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["packed", "buffers"])
@pytest.mark.parametrize("top_k, jitter", [(1, 0.01), (2, 0.01), (1, 0.0)])
def test_inputs_stay_as_they_were_runs_agree_bit_for_bit_and_dtypes_stay(dtype, layout, top_k,
                                                                         jitter):
    config = snp.SwitchConfig(num_experts=4, top_k=top_k, layout=layout, router_dropout=0.2,
                              jitter=jitter, sample=True, expert_dropout=0.3, groups="rows")
    rng = np.random.default_rng(0)
    params = snp.switch_layer.init(rng, 5, 7, config, dtype=dtype)
    x = rng.standard_normal((3, 8, 5)).astype(dtype)
    padding = rng.random((3, 8)) < 0.2
    for array in (*params.values(), x, padding):
        array.flags.writeable = False
    results = []
    for _ in range(2):
        out, cache = snp.switch_layer.forward(params, x, config, padding=padding, training=True,
                                              rng=np.random.default_rng(7))
        d_x, grads = snp.switch_layer.backward(x, cache, 0.5, 0.25)
        results.append([out.y, out.balance_loss, out.z_loss, out.probs, d_x, *grads.values()])
    for first, second in zip(*results):
        assert first.dtype == dtype
        np.testing.assert_array_equal(first, second)


def test_noise_is_replayed_and_expert_dropout_stays_with_its_token():
    config = snp.SwitchConfig(num_experts=3, capacity_factor=None, expert_dropout=0.5, jitter=0.0)
    params, x, _, noise = layer_problem(0, config)
    first, _ = snp.switch_layer.forward(params, x, config, noise=noise, training=True)
    order = np.random.default_rng(0).permutation(len(x))
    moved = noise._replace(expert_dropout=noise.expert_dropout[order])
    second, _ = snp.switch_layer.forward(params, x[order], config, noise=moved, training=True)
    np.testing.assert_allclose(second.y, first.y[order], rtol=1e-13, atol=1e-13)


def test_sampling_follows_the_softmax():
    config = snp.SwitchConfig(num_experts=3, sample=True, jitter=0.0)
    params = {"w_router": np.log([[0.2, 0.5, 0.3]]), "w_in": np.ones((3, 1, 1)),
              "w_out": np.ones((3, 1, 1))}
    out, _ = snp.switch_layer.forward(params, np.ones((20000, 1)), config, training=True,
                                      rng=np.random.default_rng(0))
    np.testing.assert_allclose(out.plan.load[0] / 20000, [0.2, 0.5, 0.3], atol=0.01)
    chosen = out.plan.expert[:, 0]
    np.testing.assert_allclose(out.gates[:, 0], np.array([0.2, 0.5, 0.3])[chosen])


def test_memory_has_no_tokens_by_experts_by_capacity_array():
    config = snp.SwitchConfig(num_experts=64, capacity_factor=1.0)
    rng = np.random.default_rng(0)
    params = snp.switch_layer.init(rng, 8, 16, config, dtype=np.float32)
    x = rng.standard_normal((8192, 8)).astype(np.float32)
    tracemalloc.start()
    _, cache = snp.switch_layer.forward(params, x, config)
    snp.switch_layer.backward(x, cache)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 4 * 8192 * (8 + 64 + 16)      # T x E x C alone would be 268 MB


def test_backward_after_a_complex_forward_is_linear():
    """A complex d_y is its real part and i times its imaginary one."""
    config = snp.SwitchConfig(num_experts=3, top_k=2, capacity_factor=1.0)
    params, x, _, _ = layer_problem(0, config, training=False)
    _, real = snp.switch_layer.forward(params, x, config)
    _, both = snp.switch_layer.forward({name: value + 0j for name, value in params.items()}, x + 0j,
                                       config)
    d_y = np.random.default_rng(1).standard_normal((2, *x.shape))
    d_x, grads = snp.switch_layer.backward(d_y[0] + 1j * d_y[1], both)
    for part, upstream in zip((np.real, np.imag), d_y):
        want_x, wanted = snp.switch_layer.backward(upstream, real)
        for got, want in ((d_x, want_x), *((grads[name], wanted[name]) for name in wanted)):
            np.testing.assert_allclose(part(got), want, rtol=1e-12, atol=1e-12)
