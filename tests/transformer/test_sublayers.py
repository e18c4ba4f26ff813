"""The model's formulas against the complex step; T5's buckets against the formula by hand."""

import numpy as np
import pytest

from switch_np.operations import dropout, gradcheck
from switch_np.transformer import attention, cross_entropy, embedding, norm, position_bias


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
