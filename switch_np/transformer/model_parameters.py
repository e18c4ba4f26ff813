"""The parameters of a model: their shapes, drawn and counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from switch_np import switch_layer
from switch_np.operations import tree
from switch_np.operations.initialization import truncated_normal
from switch_np.transformer.model_config import ModelConfig, StackConfig


def draw(rng: np.random.Generator, config: ModelConfig, dtype: DTypeLike) -> dict[str, Any]:
    """Draw the parameters, a nested dict; `switch_np.model.init` says how."""
    drawn = {name: _draw_stack(rng, config, kind, dtype)
             for name, kind in reversed(config.stacks.items())}
    outer = _outer_shapes(config)
    for name, shape in outer.items():
        fan_in = config.d_model if name == "head.w_head" else 1
        drawn |= tree.unflatten({name: truncated_normal(rng, shape, fan_in, config.init_scale,
                                                        dtype)})
    order = [*dict.fromkeys(name.split(".")[0] for name in outer), *config.stacks]
    return {name: drawn[name] for name in order}


def _draw_stack(rng: np.random.Generator, config: ModelConfig, kind: StackConfig,
                dtype: DTypeLike) -> dict[str, Any]:
    """Draw one stack; what is one array of a block is one entry of `_block_shapes`."""
    def draw(shape: tuple[int, ...], fan_in: int) -> np.ndarray:
        return truncated_normal(rng, shape, fan_in, config.init_scale, dtype)

    stack: dict[str, Any] = {
        "position_bias": {"table": draw((config.num_buckets, config.num_heads), config.d_model)}}
    for layer in range(kind.num_layers):
        block: dict[str, Any] = {}
        for name, shape in _block_shapes(config, kind, layer).items():
            part, leaf = name.split(".")
            if part == "switch":
                block["switch"] = block.get("switch") or switch_layer.init(
                    rng, config.d_model, config.d_ff, config.switch, config.init_scale, dtype)
            else:
                block.setdefault(part, {})[leaf] = np.ones(shape, dtype) if leaf == "scale" else (
                    draw(shape, shape[0] * (config.d_kv if leaf == "w_q" else 1)))
        stack[str(layer)] = block
    stack["final_norm"] = {"scale": np.ones(config.d_model, dtype)}
    return stack


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its path name.

    >>> shapes(ModelConfig())["decoder.1.switch.w_in"]
    (16, 32, 64)
    """
    return dict(_shapes(config))


@cache
def _shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Return the same, remembered: every step asks."""
    found = _outer_shapes(config)
    for stack, kind in config.stacks.items():
        found |= {f"{stack}.position_bias.table": (config.num_buckets, config.num_heads),
                  f"{stack}.final_norm.scale": (config.d_model,)}
        for layer in range(kind.num_layers):
            found |= {f"{stack}.{layer}.{name}": shape
                      for name, shape in _block_shapes(config, kind, layer).items()}
    return found


def _outer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of embeddings and head, as the config ties them."""
    v, d, ties = config.vocab_size, config.d_model, config.tie_embeddings
    found: dict[str, tuple[int, ...]] = {"embedding.table": (v, d)}
    if ties == "none" and config.encoder:
        found["encoder_embedding.table"] = (v, d)
    return found if ties == "all" else {**found, "head.w_head": (d, v)}


def _block_shapes(config: ModelConfig, kind: StackConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of one block's parameters, in the order in which a token meets them."""
    d, f, width = config.d_model, config.d_ff, config.num_heads * config.d_kv
    found: dict[str, tuple[int, ...]] = {}
    for name in ("attention", *(["cross"] if kind.cross else [])):
        attention = "cross_attention" if name == "cross" else name
        found |= {f"{name}_norm.scale": (d,), f"{attention}.w_q": (d, width),
                  f"{attention}.w_k": (d, width), f"{attention}.w_v": (d, width),
                  f"{attention}.w_o": (width, d)}
    found["feed_forward_norm.scale"] = (d,)
    if kind.is_switch(layer):
        return found | {f"switch.{name}": shape for name, shape in
                        switch_layer.shapes(d, f, config.switch).items()}
    gate = {"feed_forward.w_gate": (d, f)} if config.gated else {}
    return found | {"feed_forward.w_in": (d, f)} | gate | {"feed_forward.w_out": (f, d)}


def count_params(params: Mapping[str, Any]) -> int:
    """Return the number of parameters.

    >>> count_params({"a": {"b": np.zeros((2, 3))}, "c": np.zeros(4)})
    10
    """
    return sum(math.prod(value.shape) for value in tree.flatten(params).values())
