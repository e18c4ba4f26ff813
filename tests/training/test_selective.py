"""Selective precision: what is float32, what is bfloat16, and that nothing else changed."""

from dataclasses import replace

import numpy as np
import pytest

import switch_np as snp
from switch_np import model
from switch_np.operations import tree
from switch_np.operations.precision import round_to
from switch_np.oracle.vectors import exact
from switch_np.switch import experts, router
from switch_np.training import selective
from switch_np.training.objective import next_byte
from switch_np.transformer import model as composition

HALVES = {"bfloat16": "bfloat16", "float16": "float16", "selective": "bfloat16"}
CONFIG = snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0, router_bias=True)


def on_grid(x, name="bfloat16"):
    return np.array_equal(round_to(np.array(x), name), x, equal_nan=True)


def arrays(value, path=""):
    """Yield every float array inside nested tuples, lists and dicts, with its path."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from arrays(inner, f"{path}.{key}")
    elif isinstance(value, (tuple, list)):
        for key, inner in zip(getattr(value, "_fields", range(len(value))), value):
            yield from arrays(inner, f"{path}.{key}")


def run(mode, seed=0, config=CONFIG, training=True, prepare=lambda value: value):
    """Return x, the parameters, the layer's output, its cache, d_x and grads."""
    rng = np.random.default_rng(seed)
    params = tree.apply(lambda a: (a + 0.3 * rng.standard_normal(a.shape)).astype(np.float32),
                        snp.switch_layer.init(rng, 5, 7, config, 2.0))
    x, d_y = prepare(rng.standard_normal((2, 24, 5)).astype(np.float32))
    out, cache = snp.switch_layer.forward(selective.stored(params, mode), x, config, rng=rng,
                               training=training)
    d_x, grads = snp.switch_layer.backward(d_y, cache, 0.3, 0.2)
    return x, params, out, cache, d_x, grads


def test_float32_is_no_mode_at_all():
    params = snp.switch_layer.init(np.random.default_rng(0), 5, 7, CONFIG)
    for mode in ("float32", "float64"):
        assert all(value is params[name] for name, value in selective.stored(params, mode).items())
        assert all(value is params[name]
                   for name, value in selective.gradients(params).items())


@pytest.mark.parametrize("mode", HALVES)
@pytest.mark.parametrize("seed", [0, 2])
def test_where_rounding_loses_nothing_every_bit_is_that_of_float64(mode, seed):
    asked = exact.problem(top_k=1, capacity=2, seed=seed)
    plan = snp.oracle.reference(**asked).plan
    found = []
    for kind in (mode, "float64"):
        params = selective.stored(asked["params"], kind)
        out, cache = snp.switch_layer.forward(params, asked["x"], asked["config"], plan=plan)
        d_x, grads = snp.switch_layer.backward(asked["d_y"], cache)
        found.append({"y": out.y, "probs": out.probs, "x": d_x, **grads})
    for name, want in found[1].items():
        assert np.array_equal(found[0][name], want), name
    assert found[1]["x"].any() and found[1]["w_router"].any()


@pytest.mark.parametrize("mode", HALVES)
def test_the_layer_rounds_what_it_is_handed(mode):
    found = [run(mode, prepare=prepare)
             for prepare in (lambda value: value, lambda value: round_to(value, HALVES[mode]))]
    for _, _, out, _, d_x, grads in found:
        assert np.array_equal(out.y, found[0][2].y) and np.array_equal(d_x, found[0][4])
        assert all(np.array_equal(value, found[0][5][name]) for name, value in grads.items())


@pytest.mark.parametrize("layout", ["packed", "buffers"])
def test_the_router_is_float32_to_the_last_bit(layout):
    config = snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0, layout=layout)
    x, params, out, cache, _, grads = run("selective", config=config)
    plain_cache = run("float32", config=config)[3]
    assert np.array_equal(cache.router.noisy_TD / plain_cache.router.noisy_TD == 1,
                          round_to(x, "bfloat16") == x)              # the same jitter
    jitter = plain_cache.router.noisy_TD / x
    want, _ = router.forward(params, cache.router.noisy_TD)
    assert np.allclose(cache.router.noisy_TD, round_to(x, "bfloat16") * jitter, rtol=3e-7)
    assert np.array_equal(out.logits, want.logits_TE) and np.array_equal(out.probs, want.probs_TE)
    assert type(out.probs) is np.ndarray and not on_grid(out.probs) and not on_grid(out.logits)
    assert not on_grid(grads["w_router"])
    assert np.array_equal(out.gates, round_to(np.take_along_axis(out.probs, out.plan.expert, 1),
                                              "bfloat16"))


@pytest.mark.parametrize("layout", ["packed", "buffers"])
@pytest.mark.parametrize("mode", HALVES)
def test_what_is_communicated_has_no_bits_below(mode, layout, monkeypatch):
    sent = []
    forward, backward = experts.forward, experts.backward

    def watch_forward(params, rows_RD, *others):
        out_RD, cache = forward(params, rows_RD, *others)
        sent.extend([rows_RD, out_RD])
        return out_RD, cache

    def watch_backward(d_out_RD, cache):
        d_rows_RD, grads = backward(d_out_RD, cache)
        sent.extend([d_out_RD, d_rows_RD])
        return d_rows_RD, grads

    monkeypatch.setattr(experts, "forward", watch_forward)
    monkeypatch.setattr(experts, "backward", watch_backward)
    config = snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0, layout=layout)
    _, _, out, _, d_x, grads = run(mode, config=config)
    sent += [out.y, out.gates, d_x, grads["w_in"], grads["w_out"]]
    assert len(sent) == 9
    assert all(on_grid(value, HALVES[mode]) and value.any() for value in sent)
    sent.clear()
    run("float32", config=config)
    assert not any(on_grid(value) for value in sent)


SMALL = snp.ModelConfig(num_layers=2, num_heads=2, d_model=8, d_kv=4, d_ff=8, dropout=0.1,
                        switch=CONFIG, z_coef=0.1)
TEXT = np.random.default_rng(0).integers(0, 256, 400).astype(np.uint8)


# An encoder too, gated units, and a head and an embedding apart.
WHOLE = replace(SMALL, num_encoder_layers=2, encoder_switch_every=2, activation="gelu", gated=True,
                tie_embeddings="none")


def model_run(mode, config=SMALL):
    params = model.init(np.random.default_rng(1), config, np.float32)
    batch = next_byte(np.random.default_rng(2), TEXT, 4, 16)
    if config is WHOLE:
        batch = batch._replace(source=batch.inputs[:, ::2])
    noise = model.draw_noise(np.random.default_rng(3), config, (4, 16), np.float32,
                             (4, 8) if config is WHOLE else None)
    found, cache = composition.loss(selective.stored(params, mode), batch, config, noise,
                                    training=True)
    return found, cache.model, composition.loss_backward(cache, config)


@pytest.mark.parametrize("config", [SMALL, WHOLE], ids=["decoder", "encoder-decoder"])
@pytest.mark.parametrize("mode", HALVES)
def test_all_that_a_model_keeps_is_rounded_but_for_the_router(mode, config):
    _, cache, grads = model_run(mode, config)
    kept = dict(arrays(cache, "cache")) | dict(arrays(grads, "grads"))
    fine = {path for path, value in kept.items() if not on_grid(value, HALVES[mode])}
    # Noise, and the balance loss's counts, are data; they are rounded where they meet something.
    data = {path for path in kept if path.endswith(("jitter", "scale_TD", ".balance.slope_GE"))}
    router = {path for path in kept if ".switch.router." in path or path.endswith("_router")
              or path.endswith(".probs_TE") or ".z." in path}
    assert len(kept) > 60 and len(router) > 6
    if mode != "selective":
        assert fine <= data
    else:
        assert fine <= data | router and len(fine - data) >= 6
    assert all(value.dtype == np.float32 for value in kept.values())


@pytest.mark.parametrize("mode", HALVES)
def test_the_models_loss_is_float32_and_its_gradient_is_rounded_before_it_goes_on(mode):
    found, cache, _ = model_run(mode)
    assert type(found.cross_entropy) is not type(cache.head.y_TD)
    assert not on_grid(found.cross_entropy, HALVES[mode])
    d_logits = np.random.default_rng(0).standard_normal((4, 16, 256)).astype(np.float32)
    got, want = (tree.flatten(model.backward(value, cache))
                 for value in (d_logits, round_to(d_logits, HALVES[mode])))
    assert all(np.array_equal(got[name], value) for name, value in want.items())


@pytest.mark.parametrize("mode", HALVES)
def test_the_gradient_goes_straight_through(mode):
    (loss, _, grads), (want, _, wanted) = model_run(mode), model_run("float32")
    assert abs(loss.total / want.total - 1) < 0.01
    for name, value in tree.flatten(wanted).items():
        got = np.asarray(tree.flatten(grads)[name])
        error = np.linalg.norm(got - value) / np.linalg.norm(value)
        assert error < 0.3, (name, error)


def test_a_complex_step_is_refused():
    params = selective.stored(snp.switch_layer.init(np.random.default_rng(0), 5, 7, CONFIG),
                              "selective")
    x = np.ones((3, 5))
    for bad in (params | {"w_router": params["w_router"] + 0j}, params):
        with pytest.raises(TypeError, match="complex"):
            snp.switch_layer.forward(bad, x if bad is not params else x + 0j, CONFIG)
    with pytest.raises(TypeError, match="x must be real"):
        selective.stored({"w_in": params["w_router"] + 0j}, "bfloat16")


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"mode must be one of 'float64', .* got 'fp8'"):
        selective.stored({}, "fp8")
