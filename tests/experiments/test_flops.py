"""Operations are counted as NumPy computes them."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.tiny import MODEL
from switch_np import model
from switch_np.experiments import flops
from switch_np.operations import tree
from switch_np.switch.config import SwitchConfig


class Counted(np.ndarray):
    """An array whose products are counted."""

    operations = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(value) for value in inputs]
        if ufunc is np.matmul:
            a, b = plain
            Counted.operations += 2 * a.size * b.shape[-1]
        into = {} if out is None else {"out": tuple(np.asarray(value) for value in out)}
        found = getattr(ufunc, method)(*plain, **into, **options)
        return found.view(Counted) if isinstance(found, np.ndarray) else found


@pytest.mark.parametrize("options", [
    dict(), dict(top_k=2, capacity_factor=1.0), dict(capacity_factor=2.0)])
@pytest.mark.parametrize("every, attention", [(0, False), (1, False), (2, False), (2, True)])
def test_operations_are_those_of_the_products(options, every, attention):
    config = replace(MODEL, num_layers=3, switch_every=every, switch_attention=attention,
                     switch=SwitchConfig(
        num_experts=2, layout="buffers", **options))
    params = model.init(np.random.default_rng(0), config)
    ids = np.random.default_rng(1).integers(0, 256, (4, 10))
    counted = tree.apply(lambda value: value.view(Counted), params)
    Counted.operations = 0
    model.forward(counted, ids, config)
    assert Counted.operations == flops.forward(config, 4, 10)
    assert flops.step(config, 4, 10) == 3 * flops.forward(config, 4, 10, training=True)


def test_operations_of_an_encoder_and_decoder_with_gates():
    layer = SwitchConfig.like("hf_deepseek_v3", num_experts=4, layout="buffers",
                              capacity_factor=1.0)
    config = replace(MODEL, num_layers=3, num_encoder_layers=2, gated=True, activation="gelu",
                     switch=layer)
    rng = np.random.default_rng(0)
    ids, source = rng.integers(0, 256, (4, 10)), rng.integers(0, 256, (4, 7))
    counted = tree.apply(lambda value: value.view(Counted), model.init(rng, config))
    Counted.operations = 0
    model.forward(counted, ids, config, source=source)
    assert Counted.operations == flops.forward(config, 4, 10, source_len=7)


def test_rows_without_a_limit_are_the_choices():
    config = replace(MODEL, switch=SwitchConfig(num_experts=4, top_k=2, capacity_factor=None))
    assert flops.expert_rows(config, 100, training=True) == 200
