"""What is measured: the sizes of layer and model, each with its random problem in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import switch_np as snp
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan
from switch_np.transformer.batch import Batch
from switch_np.transformer.model_config import ModelConfig


class LayerCase(NamedTuple):
    """One Switch layer: what it is made of, and what arrives at its output.

    `balance_coef` is the loss's; there is no noise and no z-loss.
    """

    config: SwitchConfig
    params: dict[str, np.ndarray]
    x: np.ndarray
    d_y: np.ndarray
    balance_coef: float

    @property
    def capacity(self) -> int:
        """Slots per expert."""
        return self.config.expert_capacity(len(self.x))


def layer(tokens: int, d_model: int, d_ff: int, num_experts: int,
          capacity_factor: float = 1.25, balance_coef: float = 0.01) -> LayerCase:
    """Draw a layer whose router prefers as a young router does: unevenly, with a few drops.

    >>> layer(8, 4, 6, 2).x.shape
    (8, 4)
    """
    rng = np.random.default_rng(0)
    config = SwitchConfig(num_experts=num_experts, capacity_factor=capacity_factor, jitter=0.0)
    params = snp.switch_layer.init(rng, d_model, d_ff, config, scale=1.0, dtype=np.float32)
    x, d_y = rng.standard_normal((2, tokens, d_model), dtype=np.float32)
    return LayerCase(config, params, x, d_y, balance_coef)


def sizes(tokens: int, d_model: int, num_experts: int = 8,
          capacity_factor: float = 1.25) -> dict[str, Any]:
    """Return the arguments of `layer` for experts four times as wide as the model.

    >>> sizes(8, 4)
    {'tokens': 8, 'd_model': 4, 'd_ff': 16, 'num_experts': 8, 'capacity_factor': 1.25}
    """
    return {"tokens": tokens, "d_model": d_model, "d_ff": 4 * d_model, "num_experts": num_experts,
            "capacity_factor": capacity_factor}


LAYERS = {"small": sizes(1024, 64), "middle": sizes(2048, 128), "large": sizes(4096, 256, 16)}
TOKENS = {str(2 ** n): sizes(2 ** n, 128) for n in range(10, 17)}
EXPERTS = {str(2 ** n): sizes(2048, 128, 2 ** n) for n in range(9)}
CAPACITIES = {str(factor): sizes(2048, 128, 8, factor) for factor in (0.5, 1.0, 1.25, 2.0, 4.0)}

LEARNING_RATE = 1e-9     # the work of a training step, and the routing stays as it is
MAX_NORM = 0.01          # always exceeded, so that all of them clip


class ModelCase(NamedTuple):
    """One model and one batch of bytes."""

    config: ModelConfig
    params: dict[str, Any]
    batch: Batch


def model(d_model: int, rows: int, length: int, num_experts: int = 8) -> ModelCase:
    """Draw a decoder of 4 blocks, 2 of them Switch blocks, with 4 heads and d_ff = 4 d_model.

    >>> model(8, 2, 3).config.switch_names
    ('decoder.1', 'decoder.3')
    """
    rng = np.random.default_rng(0)
    switch = SwitchConfig(num_experts=num_experts, capacity_factor=1.25, jitter=0.0)
    config = ModelConfig(d_model=d_model, d_ff=4 * d_model, num_heads=4, d_kv=d_model // 4,
                         switch=switch)
    ids = rng.integers(0, config.vocab_size, (rows, length + 1))
    params = snp.model.init(rng, config, np.float32)
    return ModelCase(config, params, Batch(ids[:, :-1], ids[:, 1:]))


MODELS = {f"d={d}, {rows} × {length}": {"d_model": d, "rows": rows, "length": length}
          for d, rows, length in ((32, 16, 32), (64, 16, 64), (128, 16, 128))}


def layer_step(case: LayerCase) -> tuple[Mapping[str, np.ndarray], Plan]:
    """Run our layer forward and backward; return all that a peer must agree on, and the plan."""
    out, cache = snp.switch_layer.forward(case.params, case.x, case.config, training=True)
    d_x, grads = snp.switch_layer.backward(case.d_y, cache, case.balance_coef)
    return {"y": out.y, "x": d_x, **grads}, out.plan
