"""The noise of one step of the model, dropout and the routers': drawn before anything is computed.

Source: T5 (Raffel et al., JMLR 21, 2020) for where dropout falls: on the embedding, the attention
probabilities, the hidden units of dense networks, each sublayer's output, and the last norm's.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from switch_np.conventions import noise as switch_noise
from switch_np.conventions.noise import Noise
from switch_np.operations import check, dropout
from switch_np.transformer.batch_slices import take
from switch_np.transformer.model_config import ModelConfig, StackConfig

Shape = tuple[int, ...]


class BlockNoise(NamedTuple):
    """A block's dropout masks (None: no dropout), and its Switch layer's noise."""

    attention_probs: np.ndarray | None = None
    attention_out: np.ndarray | None = None
    cross_probs: np.ndarray | None = None
    cross_out: np.ndarray | None = None
    hidden: np.ndarray | None = None
    feed_forward_out: np.ndarray | None = None
    switch: Noise = Noise()


class StackNoise(NamedTuple):
    """The dropout masks before and after the blocks, and each block's noise."""

    first: np.ndarray | None = None
    blocks: tuple[BlockNoise, ...] = ()
    last: np.ndarray | None = None


class ModelNoise(NamedTuple):
    """The noise of one step, by stack."""

    decoder: StackNoise = StackNoise()
    encoder: StackNoise = StackNoise()


def draw(rng: np.random.Generator, config: ModelConfig, shapes: Mapping[str, Shape],
         dtype: DTypeLike) -> ModelNoise:
    """Draw the noise of the stacks that `shapes` names, in that order, for ids of these shapes."""
    length = shapes["encoder"][1] if "encoder" in shapes else None
    return ModelNoise(**{name: draw_stack(rng, config, config.stacks[name], shape, dtype, length)
                         for name, shape in shapes.items()})


def draw_stack(rng: np.random.Generator, config: ModelConfig, kind: StackConfig, shape: Shape,
               dtype: DTypeLike, memory_length: int | None = None) -> StackNoise:
    """Draw the noise of one stack for ids of shape (B, S), in a fixed order."""
    stream, rate = (*shape, config.d_model), config.dropout
    memory_length = memory_length if kind.cross else None
    return StackNoise(
        dropout.draw(rng, stream, rate),
        tuple(draw_block(rng, config, kind.is_switch(layer), shape, dtype, memory_length)
              for layer in range(kind.num_layers)), dropout.draw(rng, stream, rate))


def draw_block(rng: np.random.Generator, config: ModelConfig, is_switch: bool, shape: Shape,
               dtype: DTypeLike, memory_length: int | None = None) -> BlockNoise:
    """Draw the noise of one block; `memory_length` is None without cross-attention."""
    (b, s), h, d, rate = shape, config.num_heads, config.d_model, config.dropout
    cross, m = (0.0, 0) if memory_length is None else (rate, memory_length)
    return BlockNoise(
        attention_probs=dropout.draw(rng, (b, h, s, s), rate),
        attention_out=dropout.draw(rng, (b, s, d), rate),
        cross_probs=dropout.draw(rng, (b, h, s, m), cross),
        cross_out=dropout.draw(rng, (b, s, d), cross),
        hidden=dropout.draw(rng, (b * s, config.d_ff), 0.0 if is_switch else rate),
        feed_forward_out=dropout.draw(rng, (b, s, d), rate),
        switch=switch_noise.draw_noise(rng, config.switch, b * s, d, config.d_ff, dtype)
        if is_switch else Noise())


def noise_for(noise: ModelNoise | None, config: ModelConfig, shapes: Mapping[str, Shape],
              dtype: DTypeLike, rng: np.random.Generator | None, replayed: bool = False,
              training: bool = False) -> ModelNoise:
    """Return the noise handed in; else draw what the config needs, which may be none."""
    if noise is not None:
        check.instance("noise", noise, ModelNoise)
        return noise
    noisy = config if training else _outside_training(config, replayed)
    routers = noisy.switch.noisy and any(config.stacks[name].switch_layers for name in shapes)
    if not (noisy.dropout or routers):
        return ModelNoise()
    if rng is None:
        where = ("when training=True and the config has noise" if training else
                 "since config.switch has conventions that draw random numbers in every call")
        raise ValueError(f"rng must be a Generator (or noise= be given) {where}, got None")
    check.instance("rng", rng, np.random.Generator)
    return draw(rng, noisy, shapes, dtype)


def of_slice(noise: BlockNoise, mine: slice, length: int) -> BlockNoise:
    """Return the dropout masks of some sequences; the hidden units' mask has a row per token."""
    tokens = slice(mine.start * length, mine.stop * length)
    return BlockNoise(**{name: take(mask, tokens if name == "hidden" else mine)
                         for name, mask in noise._asdict().items() if name != "switch"})


@cache
def _outside_training(config: ModelConfig, replayed: bool) -> ModelConfig:
    """Return the config whose noise in training is this one's outside training."""
    quiet = switch_noise.outside_training(config.switch)
    return replace(config, dropout=0.0,
                   switch=switch_noise.decided(quiet, switch_noise.Noise()) if replayed else quiet)
