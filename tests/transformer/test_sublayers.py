"""The model's formulas and a block against the complex step; T5's buckets worked out by hand."""

import numpy as np
import pytest
from support import TINY, lively

import switch_np as snp
from switch_np import model
from switch_np.operations import dropout, gradcheck
from switch_np.transformer import (
    attention, block, cross_entropy, model_noise, norm, position_bias)
from switch_np.transformer.model_config import ModelConfig


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
    # The first distance of each bucket, from T5's formula: 16 * 8^(k / 16), to 128.
    back = position_bias.bucket(-np.arange(300), 32, 128)
    first = [int(np.argmax(back == b)) for b in range(32)]
    assert first[:17] == list(range(17))
    assert first[17:] == [int(np.ceil(16 * 8 ** (k / 16) - 1e-9)) for k in range(1, 16)]
    both = position_bias.bucket(np.array([-300, -8, -7, 0, 7, 8, 300]), 32, 128, True)
    assert both.tolist() == [15, 8, 7, 0, 23, 24, 31]


@pytest.mark.parametrize("m, rate, padded", [(4, 0.0, False), (6, 0.3, True), (1, 0.0, False)])
def test_attention(rng, m, rate, padded):
    b, s, h, a, d = 2, 4, 3, 2, 5
    params = {f"w_{name}": rng.standard_normal((d, h * a)) for name in "qkv"}
    params["w_o"] = rng.standard_normal((h * a, d))
    keep = dropout.draw(rng, (b, h, s, m), rate)
    padding = (rng.random((b, m)) < 0.3) & (np.arange(m) > 0) if padded else None
    mask = attention.causal_mask(s, m)

    inputs = {"x": rng.standard_normal((b, s, d)), "memory": rng.standard_normal((b, m, d)),
              "bias": rng.standard_normal((h, s, m)), "params": params}
    gradcheck.check_backward(
        lambda i: attention.forward(i["params"], i["x"], i["memory"], i["bias"] + mask, padding,
                                    keep, rate),
        lambda d_y, cache: dict(zip(inputs, attention.backward(d_y, cache))), inputs, rng)


@pytest.mark.parametrize("targets", [[0, 2, 1], [0, -100, 2], [-100, -100, -100], []])
def test_cross_entropy(rng, targets):
    targets = np.array(targets, int)
    gradcheck.check_backward(
        lambda i: cross_entropy.forward(i["logits"], targets),
        lambda d_loss, cache: {"logits": cross_entropy.backward(float(d_loss), cache)},
        {"logits": rng.standard_normal((len(targets), 4))}, rng)


@pytest.mark.parametrize("layer, attends", [(0, False), (1, False), (1, True)])
def test_block(rng, layer, attends):
    config = ModelConfig(**{**TINY, "d_kv": 2, "d_ff": 2}, dropout=0.2, switch_attention=attends,
                         switch=snp.SwitchConfig(num_experts=3, expert_dropout=0.3, capacity=2))
    params = lively(rng, model.init(rng, config))["decoder"][str(layer)]
    noise = model_noise.draw_block(rng, config, layer, (2, 3), float)
    x, bias = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 3))
    inputs = {"x": x, "bias": bias, "params": params}
    _, switched, _ = block.forward(params, x, bias, config, noise=noise, training=True)

    def forward(i):
        y, out, cache = block.forward(i["params"], i["x"], i["bias"], config, noise=noise,
                                      plans=iter([each.plan for each in switched]), training=True)
        losses = zip(*((each.balance_loss, each.z_loss) for each in out))
        return (y, *(map(sum, losses) if out else (y.sum() * 0, y.sum() * 0))), cache

    def backward(d_y, d_balance, d_z, cache):
        return dict(zip(inputs, block.backward(d_y, cache, float(d_balance), float(d_z))))

    gradcheck.check_backward(forward, backward, inputs, rng)
