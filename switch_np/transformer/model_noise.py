"""The noise of one step of the model, dropout and the routers': drawn before anything is computed.

Source: T5 (Raffel et al., JMLR 21, 2020) for where dropout falls: on the embedding, the attention
probabilities, the hidden units of dense networks, each sublayer's output, and the last norm's.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from switch_np.conventions import noise as switch_noise
from switch_np.conventions.noise import Noise
from switch_np.operations import check, dropout
from switch_np.transformer.batch_slices import take
from switch_np.transformer.model_config import ModelConfig, StackConfig

Shape = tuple[int, ...]


class BlockNoise(NamedTuple):
    """A block's dropout masks (None: no dropout), and its Switch layers' noise."""

    attention_probs: np.ndarray | None = None
    attention_out: np.ndarray | None = None
    cross_probs: np.ndarray | None = None
    cross_out: np.ndarray | None = None
    hidden: np.ndarray | None = None
    feed_forward_out: np.ndarray | None = None
    switch: Noise = Noise()
    switch_q: Noise = Noise()
    switch_kv: Noise = Noise()


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
    found: dict[str, Any] = {
        name: dropout.draw(rng, mask_shape, config.dropout) for name, mask_shape
        in mask_shapes(config, is_switch, shape, memory_length).items()}
    layers = ("switch", "switch_q", "switch_kv")[:is_switch * (3 if config.switch_attention else 1)]
    return BlockNoise(**found | {name: switch_noise.draw_noise(
        rng, config.switch, shape[0] * shape[1], config.d_model, config.d_ff, dtype)
        for name in layers})


def mask_shapes(config: ModelConfig, is_switch: bool, shape: Shape,
                memory_length: int | None) -> dict[str, Shape]:
    """Return the shapes of a block's dropout masks, in the order in which they are drawn."""
    (b, s), h, d = shape, config.num_heads, config.d_model
    found: dict[str, Shape] = {"attention_probs": (b, h, s, s), "attention_out": (b, s, d)}
    if memory_length is not None:
        found |= {"cross_probs": (b, h, s, memory_length), "cross_out": (b, s, d)}
    if not is_switch:
        found["hidden"] = (b * s, config.d_ff)
    return found | {"feed_forward_out": (b, s, d)}


def check_noise(noise: ModelNoise, config: ModelConfig, shapes: Mapping[str, Shape]) -> None:
    """Refuse masks that do not fit the ids; each Switch layer checks its own noise."""
    check.instance("noise", noise, ModelNoise)
    for name, shape in shapes.items():
        stack, kind = getattr(noise, name), config.stacks[name]
        check.instance(f"noise.{name}", stack, StackNoise)
        if len(stack.blocks) not in (0, kind.num_layers):
            raise ValueError(f"noise.{name}.blocks must be {kind.num_layers}, one per block, or "
                             f"none, got {len(stack.blocks)}")
        stream = (*shape, config.d_model)
        _check_masks(f"noise.{name}", stack, {"first": stream, "last": stream})
        memory_length = shapes["encoder"][1] if kind.cross else None
        for layer, block in enumerate(stack.blocks):
            label = f"noise.{name}.blocks[{layer}]"
            check.instance(label, block, BlockNoise)
            _check_masks(label, block,
                         mask_shapes(config, kind.is_switch(layer), shape, memory_length))


def _check_masks(label: str, noise: StackNoise | BlockNoise, shapes: Mapping[str, Shape]) -> None:
    for name, mask in noise._asdict().items():
        if mask is not None and not name.startswith(("blocks", "switch")):
            if name not in shapes:
                raise ValueError(f"{label}.{name} must be None in this block, got an array")
            check.booleans(f"{label}.{name}", mask, shapes[name])


def noise_for(noise: ModelNoise | None, config: ModelConfig, shapes: Mapping[str, Shape],
              dtype: DTypeLike, rng: np.random.Generator | None, replayed: bool = False,
              training: bool = False) -> ModelNoise:
    """Return the given noise; if there is none, draw what the config needs, if anything."""
    if noise is not None:
        check_noise(noise, config, shapes)
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
    return BlockNoise(**{name: take(mask, tokens if name == "hidden" else mine) for name, mask
                         in noise._asdict().items() if not name.startswith("switch")})


@cache
def _outside_training(config: ModelConfig, replayed: bool) -> ModelConfig:
    """Return the config whose noise in training is this one's outside training."""
    quiet = switch_noise.outside_training(config.switch)
    return replace(config, dropout=0.0,
                   switch=switch_noise.decided(quiet, switch_noise.Noise()) if replayed else quiet)
