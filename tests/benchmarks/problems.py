"""What is measured: the sizes of layer, step and text, and a random float32 problem of each."""

from typing import Any, NamedTuple

import numpy as np

import switch_np as snp
from switch_np.exchange import hugging_face
from switch_np.switch.config import SwitchConfig
from switch_np.transformer.batch import Batch
from switch_np.transformer.model_config import ModelConfig

BALANCE_COEF = 1.0       # large, so that a wrong gradient of the balance loss is seen
LEARNING_RATE = 1e-9     # all the work of an update, but the routing stays as it was
MAX_NORM = 0.01          # always exceeded, so that gradients are always scaled


class LayerSize(NamedTuple):
    """One Switch layer with d_ff = 4 d_model."""

    tokens: int
    d_model: int
    num_experts: int = 8
    capacity_factor: float = 1.25


class StepSize(NamedTuple):
    """A decoder of 4 blocks, 2 of them Switch blocks, with d_ff = widening · d_model."""

    d_model: int
    batch_size: int
    length: int
    num_experts: int = 8
    num_heads: int = 4
    widening: int = 4


class TextSize(NamedTuple):
    """The toy's width, depth and experts as an encoder-decoder that reads and writes so much."""

    rows: int
    length: int = 64


LAYERS = {
    "small": LayerSize(1024, 64),
    "middle": LayerSize(2048, 128),
    "large": LayerSize(4096, 256, 16),
    "one-expert": LayerSize(2048, 128, 1),
    "many-experts": LayerSize(2048, 128, 64),
    "many-tokens": LayerSize(65536, 128),
    "tiny": LayerSize(64, 8, 4, 1.0),
}
STEPS = {
    "small": StepSize(32, 16, 32),
    "toy": StepSize(32, 32, 64, 16, 2, 2),        # what `python -m switch_np train` trains
    "middle": StepSize(64, 16, 64),
    "large": StepSize(128, 16, 128),
    "tiny": StepSize(8, 2, 6),
}
TEXTS = {"one-row": TextSize(1), "16-rows": TextSize(16), "tiny": TextSize(2, 5)}


def layer(size: LayerSize) -> tuple[SwitchConfig, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Draw a layer's config, parameters, x, and the gradient that arrives at its output.

    It routes unevenly, as early in training, and drops a few tokens.
    """
    rng = np.random.default_rng(0)
    config = SwitchConfig(num_experts=size.num_experts, capacity_factor=size.capacity_factor,
                          jitter=0.0)
    params = snp.switch_layer.init(rng, size.d_model, 4 * size.d_model, config, scale=1.0,
                                   dtype=np.float32)
    x, d_y = rng.standard_normal((2, size.tokens, size.d_model), dtype=np.float32)
    return config, params, x, d_y


def step(size: StepSize) -> tuple[ModelConfig, dict[str, Any], Batch]:
    """Draw a model's config and parameters, and a batch of bytes."""
    rng = np.random.default_rng(0)
    switch = SwitchConfig(num_experts=size.num_experts, capacity_factor=1.25, jitter=0.0)
    config = ModelConfig(d_model=size.d_model, d_ff=size.widening * size.d_model,
                         num_heads=size.num_heads, d_kv=size.d_model // size.num_heads,
                         switch=switch)
    ids = rng.integers(0, config.vocab_size, (size.batch_size, size.length + 1))
    params = snp.model.init(rng, config, np.float32)
    return config, params, Batch(ids[:, :-1], ids[:, 1:])


def text(size: TextSize) -> tuple[ModelConfig, dict[str, Any], np.ndarray]:
    """Draw the config and parameters of a model that transformers has too, and what it reads."""
    rng = np.random.default_rng(0)
    config = hugging_face.config(dict(
        vocab_size=256, d_model=32, d_ff=64, num_heads=2, d_kv=16, num_experts=16, num_layers=4,
        num_decoder_layers=4, num_sparse_encoder_layers=2, num_sparse_decoder_layers=2))
    return (config, snp.model.init(rng, config, np.float32),
            rng.integers(2, config.vocab_size, (size.rows, size.length)))
