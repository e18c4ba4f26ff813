"""Complex step through each part of the model and through the whole; what the model must not do."""

from dataclasses import replace

import numpy as np
import pytest
from support import TINY, check_model, lively, model_problem

import switch_np as snp
from switch_np import generate, model
from switch_np.conventions import general_network
from switch_np.operations import activations, dropout, relu, rounded, tree
from switch_np.operations import gradcheck
from switch_np.switch import feed_forward
from switch_np.training import selective
from switch_np.transformer import (
    attention, block, cross_entropy, embedding, model_noise, norm, position_bias, stack)
from switch_np.transformer.model_config import ModelConfig


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 1, 2), (0, 3, 2)])
def test_norm(rng, shape):
    gradcheck.check_backward(
        lambda i: norm.forward(i["params"], i["x"]),
        lambda d_y, cache: dict(zip(["x", "params"], norm.backward(d_y, cache))),
        {"x": rng.standard_normal(shape), "params": {"scale": rng.standard_normal(shape[-1])}}, rng)


@pytest.mark.parametrize("queries, keys", [(5, 5), (3, 7), (7, 2), (1, 1)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_position_bias(rng, queries, keys, bidirectional):
    gradcheck.check_backward(
        lambda i: position_bias.forward(i, queries, keys, 8, bidirectional),
        position_bias.backward, {"table": rng.standard_normal((4, 3))}, rng)


def test_buckets_are_t5s():
    # Distances 0 to 300 back, 32 buckets, maximum 128: the first of each bucket, from the formula
    # of T5 worked out by hand for its boundaries 16 * 8^(k / 16).
    back = position_bias.bucket(-np.arange(300), 32, 128)
    first = [int(np.argmax(back == b)) for b in range(32)]
    assert first[:17] == list(range(17))
    assert first[17:] == [int(np.ceil(16 * 8 ** (k / 16) - 1e-9)) for k in range(1, 16)]
    both = position_bias.bucket(np.array([-300, -8, -7, 0, 7, 8, 300]), 32, 128, True)
    assert both.tolist() == [15, 8, 7, 0, 23, 24, 31]


@pytest.mark.parametrize("m, rate, padded", [(4, 0.0, False), (6, 0.3, True), (1, 0.0, False)])
def test_attention(rng, m, rate, padded):
    b, s, h, a, d = 2, 4, 3, 2, 5
    params = {name: rng.standard_normal((d, h * a)) for name in ("w_q", "w_k", "w_v")}
    params["w_o"] = rng.standard_normal((h * a, d))
    keep = dropout.draw(rng, (b, h, s, m), rate)
    padding = None
    if padded:
        padding = rng.random((b, m)) < 0.3
        padding[:, 0] = False
    mask = attention.causal_mask(s, m)

    def backward(d_y, cache):
        d_x, d_memory, d_bias, grads = attention.backward(d_y, cache)
        return {"x": d_x, "memory": d_memory, "bias": d_bias, "params": grads}

    gradcheck.check_backward(
        lambda i: attention.forward(i["params"], i["x"], i["memory"], i["bias"] + mask, padding,
                                    keep, rate),
        backward, {"x": rng.standard_normal((b, s, d)), "memory": rng.standard_normal((b, m, d)),
                   "bias": rng.standard_normal((h, s, m)), "params": params}, rng)


@pytest.mark.parametrize("tokens, rate", [(6, 0.0), (6, 0.4), (0, 0.0)])
def test_feed_forward(rng, tokens, rate):
    keep = dropout.draw(rng, (tokens, 4), rate)
    gradcheck.check_backward(
        lambda i: feed_forward.forward(i["params"], i["x"], keep, rate),
        lambda d_y, cache: dict(zip(["x", "params"], feed_forward.backward(d_y, cache))),
        {"x": rng.standard_normal((tokens, 3)),
         "params": {"w_in": rng.standard_normal((3, 4)), "w_out": rng.standard_normal((4, 3))}},
        rng)


@pytest.mark.parametrize("kind", ["relu", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tokens, rate", [(6, 0.4), (0, 0.0)])
def test_general_network(rng, kind, gated, tokens, rate):
    keep = dropout.draw(rng, (tokens, 4), rate)
    params = {"w_in": rng.standard_normal((3, 4)), "w_out": rng.standard_normal((4, 3))}
    params |= {"w_gate": rng.standard_normal((3, 4))} if gated else {}
    gradcheck.check_backward(
        lambda i: general_network.forward(i["params"], i["x"], keep, rate, kind),
        lambda d_y, cache: dict(zip(["x", "params"], general_network.backward(d_y, cache))),
        {"x": rng.standard_normal((tokens, 3)), "params": params}, rng)


def test_the_activation_relu_is_the_rectifier(rng):
    x = rng.standard_normal((5, 4))
    for value in (x, np.float32(x), x + 1e-3j * x[::-1], rounded.enter(x, "bfloat16")):
        found, want = activations.forward("relu", value), relu.forward(value)
        assert type(found) is type(want) and found.dtype == value.dtype
        np.testing.assert_array_equal(found, want)
    far = np.array([[-np.inf, 1.0]])
    assert activations.forward("relu", far).tolist() == [[0.0, 1.0]]


def test_embedding(rng):
    ids = np.array([[3, 0, 3], [3, 1, 0]])
    gradcheck.check_backward(
        lambda i: (embedding.forward(i["table"], ids), None),
        lambda d_x, _: {"table": embedding.backward(d_x, ids, 5)},
        {"table": rng.standard_normal((5, 2))}, rng)


@pytest.mark.parametrize("targets", [[0, 2, 1], [0, -100, 2], [-100, -100, -100], []])
def test_cross_entropy(rng, targets):
    targets = np.array(targets, int)
    gradcheck.check_backward(
        lambda i: cross_entropy.forward(i["logits"], targets),
        lambda d_loss, cache: {"logits": cross_entropy.backward(float(d_loss), cache)},
        {"logits": rng.standard_normal((len(targets), 4))}, rng)


@pytest.mark.parametrize("layer", [0, 1])
def test_block(rng, layer):
    config = ModelConfig(**TINY, dropout=0.2,
                         switch=snp.SwitchConfig(num_experts=3, expert_dropout=0.3, capacity=2))
    params = lively(rng, model.init(rng, config))["decoder"][str(layer)]
    noise = model_noise.draw_block(rng, config, layer, (2, 3), float)
    x, bias = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 3))
    _, switched, _ = block.forward(params, x, bias, config, noise=noise, training=True)

    def forward(i):
        y, out, cache = block.forward(i["params"], i["x"], i["bias"], config, noise=noise,
                                      plan=switched and switched.plan, training=True)
        losses = (out.balance_loss, out.z_loss) if out else (y.sum() * 0, y.sum() * 0)
        return (y, *losses), cache

    def backward(d_y, d_balance, d_z, cache):
        return dict(zip(["x", "bias", "params"],
                        block.backward(d_y, cache, float(d_balance), float(d_z))))

    gradcheck.check_backward(forward, backward, {"x": x, "bias": bias, "params": params}, rng)


def test_stack(rng):
    config = ModelConfig(**TINY, dropout=0.2, switch=snp.SwitchConfig(num_experts=3))
    params = lively(rng, model.init(rng, config))["decoder"]
    x, kind = rng.standard_normal((2, 3, 4)), config.decoder
    keys = dict(noise=model_noise.draw_stack(rng, config, kind, (2, 3), float), training=True)
    plans = [out.plan for out in stack.forward(params, x, config, kind, **keys)[1]]

    def forward(i):
        y, switched, cache = stack.forward(i["params"], i["x"], config, kind, plans=plans, **keys)
        return (y, sum(out.balance_loss for out in switched)), cache

    gradcheck.check_backward(
        forward, lambda d_y, d_balance, cache: dict(zip(
            ["x", "params"], stack.backward(d_y, cache, float(d_balance)))),
        {"x": x, "params": params}, rng)


MODELS = {
    "switch": {},
    "dense": dict(switch_every=0),
    "every block": dict(switch_every=1, num_layers=2),
    "top 2 with drops": dict(switch=snp.SwitchConfig(num_experts=3, top_k=2, capacity_factor=1.0)),
    "rows": dict(switch=snp.SwitchConfig(num_experts=3, groups="rows", capacity=1)),
    "all noise": dict(dropout=0.2, switch=snp.SwitchConfig(
        num_experts=3, top_k=2, router_dropout=0.2, sample=True, expert_dropout=0.3, jitter=0.1)),
    "buffers": dict(switch=snp.SwitchConfig(num_experts=3, layout="buffers", router_bias=True)),
    "gated, a head of its own": dict(activation="gelu_tanh", gated=True, tie_embeddings="inputs",
                                     norm_epsilon=1e-3),
}
SMALL = dict(d_model=3, d_ff=2, d_kv=1, num_layers=2, num_encoder_layers=2,
             switch=snp.SwitchConfig(num_experts=3))
ENCODER_DECODERS = {
    "tied": dict(dropout=0.2),
    "untied": dict(encoder_switch_every=1, num_layers=1, switch_every=0, tie_embeddings="none",
                   activation="silu"),
    "dense, gated, a head": dict(encoder_switch_every=0, switch_every=0, tie_embeddings="inputs",
                                 gated=True),
    "pooled": dict(encoder_switch_every=1, switch_every=1, router_losses="pooled"),
    "as transformers": dict(num_layers=1, switch_every=1, router_losses="transformers",
                            switch=snp.SwitchConfig.like("hf_switch", num_experts=3, capacity=2,
                                                         jitter=0.1)),
}


@pytest.mark.parametrize("name, training", [
    *((name, True) for name in MODELS),
    *((name, False) for name in ("switch", "all noise", "top 2 with drops"))])
def test_whole_model(name, training):
    few = {"switch": snp.SwitchConfig(num_experts=3)}
    check_model(5, ModelConfig(**{**TINY, **few, **MODELS[name]}), training)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_whole_encoder_decoder(name):
    check_model(5, ModelConfig(**{**TINY, **SMALL, **ENCODER_DECODERS[name]}), b=2, s=4)


def test_evaluation_of_an_encoder_decoder():
    check_model(6, ModelConfig(**{**TINY, **SMALL, "dropout": 0.2}), training=False, s=4)


def test_noise_that_does_not_fit_the_model_is_refused(rng):
    both, alone = ModelConfig(**TINY, num_encoder_layers=1), ModelConfig(**TINY)
    with pytest.raises(ValueError, match=r"source_shape must be \(B, M\), got None"):
        model.draw_noise(rng, both, (2, 3))
    with pytest.raises(ValueError, match=r"source_shape must be None for a decoder-only model, go"):
        model.draw_noise(rng, alone, (2, 3), source_shape=(2, 4))
    params, batch = model_problem(0, alone)
    with pytest.raises(TypeError, match="noise must be a ModelNoise"):
        model.loss(params, batch, alone, noise=snp.Noise())


def test_padding_and_ignored_targets_reach_nothing():
    config = ModelConfig(**TINY, switch=snp.SwitchConfig(num_experts=3, capacity_factor=None))
    params, batch = model_problem(0, config)
    other = batch.inputs.copy()
    other[batch.padding] = (other[batch.padding] + 1) % config.vocab_size
    first, _ = model.loss_and_grads(params, batch, config)
    second, _ = model.loss_and_grads(params, batch._replace(inputs=other), config)
    assert first.total == second.total


def test_the_decoder_is_causal():
    config = ModelConfig(**TINY, switch=snp.SwitchConfig(num_experts=3))
    params, batch = model_problem(0, config, b=1, s=8, padded=False)
    other = batch.inputs.copy()
    other[0, 5] = (other[0, 5] + 1) % config.vocab_size
    first, _, _ = model.forward(params, batch.inputs, config)
    second, _, _ = model.forward(params, other, config)
    np.testing.assert_array_equal(first[0, :5], second[0, :5])
    assert (first[0, 5:] != second[0, 5:]).all()


def test_float32_stays_float32_and_inputs_stay_as_they_were():
    config = ModelConfig(**TINY, dropout=0.1, switch=snp.SwitchConfig(num_experts=3, sample=True))
    params = model.init(np.random.default_rng(0), config, np.float32)
    _, batch = model_problem(0, config)
    for array in (*tree.flatten(params).values(), *batch[:3]):
        array.flags.writeable = False
    loss, grads = model.loss_and_grads(params, batch, config, training=True,
                                       rng=np.random.default_rng(0))
    again, _ = model.loss_and_grads(params, batch, config, training=True,
                                    rng=np.random.default_rng(0))
    assert loss.total == again.total and loss.cross_entropy.dtype == np.float32
    assert {grad.dtype for grad in tree.flatten(grads).values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("mode", ["float32", "bfloat16", "selective"])
@pytest.mark.parametrize("losses", ["sum", "pooled"])
def test_every_loss_is_float32_in_a_float32_model(mode, losses):
    config = ModelConfig(**TINY, router_losses=losses)
    params = selective.stored(model.init(np.random.default_rng(0), config, np.float32), mode)
    found = model.loss(params, model_problem(0, config)[1], config)
    assert {part.dtype for part in (found.total, found.cross_entropy, *found.balance,
                                    *found.z)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["float32", "bfloat16", "float16"])
def test_where_all_is_masked_all_is_equal_in_every_precision(mode, dtype):
    config = ModelConfig(**TINY)
    params, batch = model_problem(0, config)
    params = selective.stored(tree.apply(lambda value: value.astype(dtype), params), mode)
    assert batch.padding[0, 0]              # so the first query sees padding alone
    _, _, cache = model.forward(params, batch.inputs, config, padding=batch.padding)
    probs = cache.runs["decoder"].stack.blocks[0].slices[0].self_attention.attention.probs_BHSM
    np.testing.assert_allclose(rounded.plain(probs)[0, :, 0], 1 / 6, rtol=2 ** -8)
    loss, grads = model.loss_and_grads(params, batch, config)
    assert np.isfinite(loss.total)
    assert all(np.isfinite(grad).all() for grad in tree.flatten(grads).values())


def test_initialization_has_the_spread_it_says():
    config = ModelConfig(d_model=128, d_ff=512, num_layers=2, init_scale=0.1)
    flat = tree.flatten(model.init(np.random.default_rng(0), config))
    cut = 0.8796                                      # a normal cut at two standard deviations
    fan_in = {"w_in": 128, "w_out": 512, "w_k": 128, "w_q": 128 * 16, "w_router": 128}
    for name, value in flat.items():
        if (leaf := name.split(".")[-1]) in fan_in:
            want = (0.1 / fan_in[leaf]) ** 0.5 * cut
            assert abs(value.std() / want - 1) < 0.1, name


def test_generation_is_seeded_and_sees_its_window_alone():
    config = ModelConfig(**TINY, switch=snp.SwitchConfig(num_experts=3, capacity=1))
    params, _ = model_problem(0, config)
    prompt = np.array([1, 2, 3, 4])

    def write(**options):
        return generate.generate(params, config, prompt, 12, np.random.default_rng(3), **options)

    assert write().tolist() == write().tolist()
    greedy = write(temperature=0)
    assert greedy.tolist() == write(temperature=1.0, top_k=1).tolist()
    free = replace(config, switch=replace(config.switch, capacity=None, capacity_factor=None))
    for end in range(4, 16):                          # each token is the likeliest of the model
        logits, _, _ = model.forward(params, greedy[None, :end], free)
        assert logits[0, -1].argmax() == greedy[end]
    other = prompt.copy()
    other[0] = 5
    second = generate.generate(params, config, other, 12, np.random.default_rng(3), window=3)
    assert second[4:].tolist() == write(window=3)[4:].tolist()
