"""Switch for attention: against plain loops and the complex step; noise, plans, sizes, ranks."""

from dataclasses import replace

import numpy as np
import pytest
from judges import paper_loops as loops
from parallel import model_cases as cases
from support import TINY, broken, check_model, lively, model_problem

import switch_np as snp
from switch_np import model, switch_layer
from switch_np.exchange import hugging_face
from switch_np.experiments import activation_sizes
from switch_np.operations import gradcheck, schedule, tree
from switch_np.parallel import simulated
from switch_np.transformer import (
    attention, block, model_noise, model_parameters, norm, switch_heads)
from switch_np.transformer.model_config import ModelConfig

SIZES = {**TINY, "d_kv": 2, "d_ff": 3}
CONFIG = ModelConfig(**SIZES, switch_attention=True,
                     switch=snp.SwitchConfig(num_experts=3, capacity_factor=0.8))
NOISY = replace(CONFIG, dropout=0.2, switch=snp.SwitchConfig(
    num_experts=3, top_k=2, capacity_factor=0.7, jitter=0.1, expert_dropout=0.3))


def attended(params, x, bias, padding, config):
    """Return x + attention(norm(x)), worked out token by token, head by head."""
    (b, s, d), heads = x.shape, config.num_heads
    normed, weights = norm.forward(params["attention_norm"], x)[0], params["attention"]
    q, kv = (loops.forward(weights[name], normed.reshape(-1, d), config.switch,
                           padding_T=padding.ravel()).y.reshape(b, s, heads, d // heads)
             for name in ("switch_q", "switch_kv"))
    out = x.copy()
    for i in range(b):
        for t in range(s):
            read = []
            for h in range(heads):
                seen = [m for m in range(t + 1) if not padding[i, m]]
                share = np.exp([q[i, t, h] @ kv[i, m, h] + bias[h, t, m] for m in seen])
                read += [sum(p * kv[i, m, h] for p, m in zip(share / share.sum(), seen))]
            out[i, t] += np.concatenate(read) @ weights["w_o"]
    return out


def one_block(config, rng, shape=(2, 5)):
    params = lively(rng, model.init(rng, config))["decoder"]["1"]
    x, bias = rng.standard_normal((*shape, 4)), rng.standard_normal((2, shape[1], shape[1]))
    return params, x, bias + attention.causal_mask(shape[1], shape[1])


def test_a_block_is_what_plain_loops_make_of_it(rng):
    params, x, bias = one_block(CONFIG, rng)
    padding = np.zeros((2, 5), bool)
    padding[1, 3:] = True
    got, outs, cache = block.forward(params, x, bias, CONFIG, padding_BS=padding)
    want = attended(params, x, bias, padding, CONFIG)
    normed = norm.forward(params["feed_forward_norm"], want)[0].reshape(-1, 4)
    want += loops.forward(params["switch"], normed, CONFIG.switch,
                          padding_T=padding.ravel()).y.reshape(x.shape)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    dropped = ~outs[0].plan.kept[:, 0] & ~padding.ravel()
    assert dropped.any() and not cache.slices[0].self_attention.attention.q_BHSA.swapaxes(
        1, 2).reshape(10, 4)[dropped].any()                     # the layer's 0, as the query


def check_heads(heads, rng):
    """Compare each gradient of a batch's queries and keys, dropout and drops, to complex step."""
    params, x, _ = one_block(NOISY, rng, (2, 3))
    params = {name: params["attention"][name] for name in switch_heads.NAMES}
    noise = model_noise.draw_block(rng, NOISY, True, (2, 3), float)._asdict()
    plans = {}

    def forward(inputs):
        losses = []

        def run(name, weights, x):
            out, cache = switch_layer.forward(weights, x, NOISY.switch, plan=plans.get(name),
                                              noise=noise[name], training=True)
            plans[name] = out.plan
            losses.append((out.balance_loss, out.z_loss))
            return out.y, cache

        (q, kv), cache = heads.forward(inputs["params"], inputs["x"], 2, run)
        return (q, kv, 2 * kv, *(sum(each) for each in zip(*losses))), cache

    def backward(d_q, d_k, d_v, d_balance, d_z, cache):
        return dict(zip(("x", "params"), heads.backward(
            d_q, d_k, 2 * d_v, cache, float(d_balance), float(d_z))))

    gradcheck.check_backward(forward, backward, {"x": x, "params": params}, rng)
    assert all(plan.dropped_fraction for plan in plans.values())


@pytest.mark.thorough                      # `test_sublayers` has them in a block
def test_every_gradient_by_complex_step(rng):
    check_heads(switch_heads, rng)


@pytest.mark.parametrize("right, wrong", [
    ("d_k_BHSA + d_v_BHSA", "d_v_BHSA"), ("d_x_BSD + more_BSD", "d_x_BSD"),
    ("d_BHSA.swapaxes(1, 2).reshape", "d_BHSA.reshape"), ("d_balance_loss,\n", "0.0,\n")])
def test_a_wrong_gradient_is_caught(right, wrong, rng):
    with pytest.raises(AssertionError, match="error"):
        check_heads(broken(switch_heads, right, wrong), rng)


@pytest.mark.thorough
@pytest.mark.parametrize("options", [
    dict(num_layers=2, switch_every=2, switch=NOISY.switch, dropout=0.2),
    dict(num_encoder_layers=1, encoder_switch_every=1, router_losses="pooled"),
    dict(switch=snp.SwitchConfig.like("hf_mixtral", num_experts=3, groups="rows"))])
def test_every_gradient_of_the_whole_model(options):
    config = replace(CONFIG, **{"num_layers": 1, "switch_every": 1, **options})
    assert len(check_model(5, config, s=4)) == len(config.switch_names)


def test_slices_of_the_batch_change_nothing(monkeypatch):
    params, batch = model_problem(0, NOISY, b=4)
    noise = model.draw_noise(np.random.default_rng(0), NOISY, batch.inputs.shape)
    one, whole = model.loss_and_grads(params, batch, NOISY, noise=noise, training=True)
    monkeypatch.setattr(schedule, "LEAST", 1)
    other, sliced = model.loss_and_grads(params, batch, NOISY, noise=noise, training=True)
    assert len(schedule.sequences(lambda mine: mine, (4, 6, 4))) == 2
    assert abs(one.total - other.total) < 1e-13
    for name, value in tree.flatten(sliced).items():
        gradcheck.compare(name, value, tree.flatten(whole)[name])


def test_each_layer_has_a_name_a_plan_noise_and_losses():
    params, batch = model_problem(0, NOISY)
    noise = model.draw_noise(np.random.default_rng(0), NOISY, batch.inputs.shape)
    assert len({getattr(noise.decoder.blocks[1], name).jitter.tobytes()
                for name in ("switch", *switch_heads.NAMES)}) == 3
    loss = model.loss(params, batch, NOISY, noise=noise, training=True)
    assert NOISY.switch_names == ("decoder.1.q", "decoder.1.kv", "decoder.1")
    assert len({float(each) for each in loss.balance}) == len(loss.plans) == 3
    again = model.loss(params, batch, NOISY, noise=noise, training=True, plans=loss.plans)
    turned = model.loss(params, batch, NOISY, noise=noise, training=True, plans=loss.plans[::-1])
    assert again.total == loss.total != turned.total
    with pytest.raises(ValueError, match="plans must be 3, one per Switch layer, got 1"):
        model.loss(params, batch, NOISY, noise=noise, plans=loss.plans[:1])


def test_its_parameters_are_two_layers_in_place_of_three_matrices():
    shapes, plain = (model_parameters.shapes(replace(CONFIG, switch_attention=each))
                     for each in (True, False))
    d, size = 4, sum(map(np.prod, switch_layer.shapes(4, 3, CONFIG.switch).values()))
    assert sum(map(np.prod, shapes.values())) == (
        sum(map(np.prod, plain.values())) + 2 * size - 3 * d * d)
    params = model.init(np.random.default_rng(0), replace(
        CONFIG, d_model=64, d_ff=128, num_heads=4, d_kv=16))["decoder"]["1"]["attention"]
    spread = [params[name]["w_out"].std() for name in switch_heads.NAMES]
    assert abs(spread[1] / spread[0] - 4) < 0.1                  # √A, as of W_q
    with pytest.raises(ValueError, match=r"num_heads \* d_kv must be d_model, 4, .* got 2 \* 3"):
        replace(CONFIG, d_kv=3)
    with pytest.raises(ValueError, match="in both stacks, not in attention"):
        hugging_face.config_values(ModelConfig.like("switch_base_8", switch_attention=True))


def test_what_is_measured_by_block_is_of_the_feed_forward_network():
    params, batch = model_problem(0, CONFIG)
    _, outs, _ = model.forward(params, batch.inputs, CONFIG)
    sizes = activation_sizes.by_depth(params, batch.inputs, CONFIG)
    assert sizes.added == {1: activation_sizes.rms(outs[2].y)} and len(sizes.stream) == 4


@pytest.mark.parametrize("shape", [(4, 1), pytest.param((2, 2), marks=pytest.mark.thorough)])
def test_ranks_compute_what_one_process_computes(shape):
    config = replace(cases.LM, switch_attention=True, num_layers=1)
    params, batch = cases.problem(config)
    loss, grads = model.loss_and_grads(params, batch, config, rng=np.random.default_rng(5),
                                       training=True)
    for losses, joined in simulated.run(shape[0] * shape[1], lambda world: cases.one_step(
            world, config, params, batch, shape)):
        np.testing.assert_allclose(losses, [*loss[:2], *loss.balance, *loss.z], rtol=1e-13)
        for path, value in tree.flatten(grads).items():
            gradcheck.compare(path, tree.flatten(joined)[path], value)
