"""Activation sizes, against blocks computed by hand."""

from dataclasses import replace

import numpy as np

from experiments.tiny import MODEL
from switch_np import model
from switch_np.experiments import activation_sizes, table3
from switch_np.switch.config import SwitchConfig
from switch_np.transformer import attention, embedding, norm, position_bias

TINY = replace(MODEL, init_scale=1.0, switch=SwitchConfig(num_experts=3, capacity_factor=None))
IDS = np.random.default_rng(1).integers(0, 256, (3, 10))


def test_the_first_block_is_measured_as_it_is_computed_by_hand():
    params = model.init(np.random.default_rng(0), TINY)
    found = activation_sizes.by_depth(params, IDS, TINY)
    x = embedding.forward(params["embedding"]["table"], IDS)
    assert np.isclose(found.stream[0], np.sqrt((x ** 2).mean()), rtol=1e-12)
    block = params["decoder"]["0"]
    bias, _ = position_bias.forward(params["decoder"]["position_bias"], 10, 10, 128, False, 0)
    normed, _ = norm.forward(block["attention_norm"], x)
    x = x + attention.forward(block["attention"], normed, normed,
                              bias + attention.causal_mask(10, 10, 0))[0]
    normed, _ = norm.forward(block["feed_forward_norm"], x)
    weights = block["feed_forward"]
    x = x + np.maximum(normed @ weights["w_in"], 0) @ weights["w_out"]
    assert np.isclose(found.stream[1], np.sqrt((x ** 2).mean()), rtol=1e-12)
    assert list(found.experts) == list(found.added) == [1] and len(found.stream) == 3


def test_what_the_experts_add_is_their_output_times_the_gate():
    params = model.init(np.random.default_rng(0), TINY)
    found = activation_sizes.by_depth(params, IDS, TINY)
    _, (out,), _ = model.forward(params, IDS, TINY)
    y = out.y.reshape(30, 8) / out.gates                       # nothing is dropped
    assert np.isclose(found.experts[1], activation_sizes.rms(y), rtol=1e-12)
    assert np.isclose(found.added[1], activation_sizes.rms(out.y))
    assert found.added[1] < found.experts[1]


def test_two_weights_in_a_row_grow_like_the_scale_and_one_like_its_root():
    configs = [table3.config(scale) for scale in (0.1, 1.0)]
    small, large = (activation_sizes.by_depth(
        model.init(np.random.default_rng(0), config), IDS, config) for config in configs)
    assert np.isclose(large.stream[0] / small.stream[0], 10 ** 0.5)
    assert np.isclose(large.experts[1] / small.experts[1], 10, rtol=0.2)
    assert small.stream[-1] / small.stream[0] < large.stream[-1] / large.stream[0]
