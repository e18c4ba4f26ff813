"""The whole model against the complex step; dtypes, masks, causality and initialization."""

import numpy as np
import pytest
from support import TINY, check_model, model_problem

import switch_np as snp
from switch_np import model
from switch_np.operations import rounded, tree
from switch_np.training import selective
from switch_np.transformer.model_config import ModelConfig

BOTH = dict(d_model=3, d_ff=2, d_kv=1, num_layers=2, num_encoder_layers=2)
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
    "both tied": dict(BOTH, dropout=0.2),
    "both untied": dict(BOTH, encoder_switch_every=1, num_layers=1, switch_every=0,
                        tie_embeddings="none", activation="silu"),
    "both dense, gated, a head": dict(BOTH, encoder_switch_every=0, switch_every=0, gated=True,
                                      tie_embeddings="inputs"),
    "as transformers": dict(
        BOTH, num_layers=1, switch_every=1, router_losses="transformers",
        switch=snp.SwitchConfig.like("hf_switch", num_experts=3, capacity=2, jitter=0.1)),
}
OTHERS = ("both tied", "buffers", "both dense, gated, a head")      # what others show together


@pytest.mark.parametrize("name, training", [
    *((name, True) for name in MODELS if name not in OTHERS),
    *(pytest.param(name, True, marks=pytest.mark.thorough) for name in OTHERS),
    ("all noise", False), pytest.param("switch", False, marks=pytest.mark.thorough)])
def test_whole_model(name, training):
    few = dict(vocab_size=5, d_model=3, d_ff=3, d_kv=2 if name == "switch" else 1)
    config = ModelConfig(**{**TINY, **few, "switch": snp.SwitchConfig(num_experts=3),
                            **MODELS[name]})
    check_model(5, config, training, s=4 if config.encoder else 6)


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
    again = model.loss(params, batch._replace(inputs=other), config)
    assert model.loss(params, batch, config).total == again.total


def test_the_decoder_is_causal():
    config = ModelConfig(**TINY, switch=snp.SwitchConfig(num_experts=3))
    params, batch = model_problem(0, config, b=1, s=8, padded=False)
    other = batch.inputs.copy()
    other[0, 5] = (other[0, 5] + 1) % config.vocab_size
    first, second = (model.forward(params, ids, config)[0] for ids in (batch.inputs, other))
    np.testing.assert_array_equal(first[0, :5], second[0, :5])
    assert (first[0, 5:] != second[0, 5:]).all()


def test_float32_stays_float32_and_inputs_stay_as_they_were():
    config = ModelConfig(**TINY, dropout=0.1, switch=snp.SwitchConfig(num_experts=3, sample=True))
    params = model.init(np.random.default_rng(0), config, np.float32)
    _, batch = model_problem(0, config)
    for array in (*tree.flatten(params).values(), *batch[:3]):
        array.flags.writeable = False
    (loss, grads), (again, _) = (model.loss_and_grads(
        params, batch, config, training=True, rng=np.random.default_rng(0)) for _ in range(2))
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
    cut = 0.8796                                      # a normal cut at two standard deviations
    fan_in = {"w_in": 128, "w_out": 512, "w_k": 128, "w_q": 128 * 16, "w_router": 128}
    for name, value in tree.flatten(model.init(np.random.default_rng(0), config)).items():
        if (leaf := name.split(".")[-1]) in fan_in:
            want = (0.1 / fan_in[leaf]) ** 0.5 * cut
            assert abs(value.std() / want - 1) < 0.1, name
