"""How large the activations are, block by block: root mean squares over tokens and features.

Each block adds to the residual stream. With weights of standard deviation √(s / fan-in), what a
block adds passes through two weights and grows like s; the embedding is one weight and grows like
√s.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np import model
from switch_np.switch.layer import LayerCache
from switch_np.transformer.block import BlockCache
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.norm import NormCache


class ActivationSizes(NamedTuple):
    """Root mean squares in a decoder, `experts` and `added` by block with a Switch layer."""

    stream: list[float]                # the residual stream before block 0, and after each block
    experts: dict[int, float]          # the experts' outputs
    added: dict[int, float]            # these times their gates: what the layer adds to the stream


def by_depth(params: Mapping[str, Any], ids: np.ndarray, config: ModelConfig) -> ActivationSizes:
    """Measure a decoder-only model on ids (B, S), without noise.

    >>> config = ModelConfig(num_layers=2, init_scale=1.0)
    >>> params = model.init(np.random.default_rng(0), config)
    >>> sizes = by_depth(params, np.arange(64).reshape(4, 16), config)
    >>> [round(value, 2) for value in sizes.stream], list(sizes.experts)
    ([0.89, 1.14, 1.22], [1])
    """
    _, outputs, cache = model.forward(params, ids, config)
    stack, layers = cache.runs["decoder"].stack, config.switch_layers
    norms = [[kept.self_attention.norm for kept in block.slices] for block in stack.blocks]
    return ActivationSizes(
        [_before(each, config.norm_epsilon) for each in [*norms, [stack.norm]]],
        {n: rms(switch_cache(stack.blocks[n]).mixture.combine.out_RD) for n in layers},
        {n: rms(outputs[config.switch_names.index(f"decoder.{n}")].y) for n in layers})


def switch_cache(block: BlockCache) -> LayerCache:
    """Return the cache of a block's Switch layer; the block must have one."""
    assert block.switch is not None
    return block.switch


def rms(values: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _before(norms: list[NormCache], epsilon: float) -> float:
    """Return the root mean square of a norm's input: its cache has 1 / √(mean square + ε)."""
    inverse_BS1 = np.concatenate([norm.inverse_BS1 for norm in norms])
    return float(np.sqrt(np.mean(1 / np.square(inverse_BS1, dtype=np.float64)) - epsilon))
