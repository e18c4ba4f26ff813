"""The memory network: its gradients by complex step, dense and with experts."""

from dataclasses import replace

import numpy as np
import pytest

from switch_np import model
from switch_np.experiments import memory, memory_network
from switch_np.operations import tree

TINY = replace(memory.TOY, d_model=6, d_ff=8, vocab_size=12, z_coef=0.02, balance_coef=0.3)


@pytest.mark.parametrize("config", [
    memory.toy.dense(TINY), memory.toy.switch(TINY, num_experts=3, jitter=0.0),
    memory.toy.switch(TINY, num_experts=3, top_k=2, jitter=0.0)], ids=["dense", "switch", "moe"])
def test_every_gradient_is_that_of_a_complex_step(config):
    rng = np.random.default_rng(0)
    params = model.init(rng, replace(config, init_scale=1.0), np.float64)
    pairs = np.stack([rng.integers(0, 6, 20), rng.integers(6, 12, 20)], axis=1)
    answers = rng.integers(0, 12, 20)
    _, grads = memory_network.loss_and_grads(params, pairs, answers, config, training=True)
    flat = tree.flatten(params)
    for name, grad in tree.flatten(grads).items():
        direction = rng.standard_normal(grad.shape)
        moved = tree.apply(lambda value: value.astype(complex), params)
        tree.flatten(moved)[name][...] = flat[name] + 1e-30j * direction
        loss, _ = memory_network.loss_and_grads(moved, pairs, answers, config, training=True)
        want, got = loss.total.imag / 1e-30, (grad * direction).sum()
        assert abs(got - want) < 1e-12 * max(1.0, abs(want)), name
        if "attention." in name or "position" in name or "attention_norm" in name:
            assert not grad.any()
        else:
            assert grad.any(), name
