"""The drawn parameters have the spread that the paper asks for."""

import numpy as np

from switch_np import model
from switch_np.operations import tree
from switch_np.transformer.model_config import ModelConfig


def test_initialization_has_the_spread_it_says():
    config = ModelConfig(d_model=128, d_ff=512, num_layers=2, init_scale=0.1)
    flat = tree.flatten(model.init(np.random.default_rng(0), config))
    cut = 0.8796                                      # a normal cut at two standard deviations
    fan_in = {"w_in": 128, "w_out": 512, "w_k": 128, "w_q": 128 * 16, "w_router": 128}
    for name, value in flat.items():
        if (leaf := name.split(".")[-1]) in fan_in:
            want = (0.1 / fan_in[leaf]) ** 0.5 * cut
            assert abs(value.std() / want - 1) < 0.1, name
