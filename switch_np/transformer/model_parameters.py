"""The parameters of a model: their shapes, drawn and counted."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from switch_np import switch_layer
from switch_np.operations import tree
from switch_np.operations.initialization import truncated_normal
from switch_np.transformer import switch_heads
from switch_np.transformer.model_config import ModelConfig, StackConfig

Shape = tuple[int, ...]


def draw(rng: np.random.Generator, config: ModelConfig, dtype: DTypeLike) -> dict[str, Any]:
    """Draw the parameters, a nested dict; `switch_np.model.init` says how."""
    wanted, flat = shapes(config), {}
    first = {"decoder": 0, "encoder": 1}                # then embeddings and head
    for path in sorted(wanted, key=lambda path: first.get(path.split(".")[0], 2)):
        *folders, leaf = path.split(".")
        if leaf == "scale":
            flat[path] = np.ones(wanted[path], dtype)
        elif not folders[-1].startswith("switch"):
            flat[path] = truncated_normal(rng, wanted[path], _fan_in(path, wanted[path], config),
                                          config.init_scale, dtype)
        elif path not in flat:                          # all of a Switch layer at once
            layer = switch_layer.init(rng, config.d_model, config.d_ff, config.switch,
                                      config.init_scale, dtype)
            if folders[-1] == "switch_q":               # as of w_q, in `_fan_in`
                layer |= {name: value * config.d_kv ** -0.5 for name, value in layer.items()
                          if name.endswith("w_out")}
            flat |= tree.flatten(layer, ".".join([*folders, ""]))
    return tree.packed(tree.unflatten({path: flat[path] for path in wanted}))


def _fan_in(path: str, shape: Shape, config: ModelConfig) -> int:
    """Return the number of inputs of a weight, as the initialization counts them."""
    if path.endswith("table"):
        return config.d_model if "position_bias" in path else 1
    return shape[0] * (config.d_kv if path.endswith("w_q") else 1)


@cache                                                  # every step asks
def shapes(config: ModelConfig) -> Mapping[str, Shape]:
    """Return the shape of every parameter by its path name.

    >>> shapes(ModelConfig())["decoder.1.switch.w_in"]
    (16, 32, 64)
    """
    v, d, ties = config.vocab_size, config.d_model, config.tie_embeddings
    found: dict[str, Shape] = {"embedding.table": (v, d)}
    if ties == "none" and config.encoder:
        found["encoder_embedding.table"] = (v, d)
    if ties != "all":
        found["head.w_head"] = (d, v)
    for stack, kind in config.stacks.items():
        found[f"{stack}.position_bias.table"] = (config.num_buckets, config.num_heads)
        for layer in range(kind.num_layers):
            found |= {f"{stack}.{layer}.{path}": shape
                      for path, shape in _block_shapes(config, kind, layer).items()}
        found[f"{stack}.final_norm.scale"] = (d,)
    return MappingProxyType(found)


def _block_shapes(config: ModelConfig, kind: StackConfig, layer: int) -> dict[str, Shape]:
    """Return the shapes of one block's parameters, in the order in which a token meets them."""
    d, f, width = config.d_model, config.d_ff, config.num_heads * config.d_kv
    switch = {} if not kind.is_switch(layer) else switch_layer.shapes(d, f, config.switch)
    found: dict[str, Shape] = {}
    for norm, attention in [("attention_norm", "attention"),
                            ("cross_norm", "cross_attention")][:2 if kind.cross else 1]:
        found[f"{norm}.scale"] = (d,)
        if switch and config.switch_attention and attention == "attention":
            found |= {f"attention.{part}.{name}": shape for part in switch_heads.NAMES
                      for name, shape in switch.items()}
        else:
            found |= {f"{attention}.{name}": (d, width) for name in ("w_q", "w_k", "w_v")}
        found[f"{attention}.w_o"] = (width, d)
    found["feed_forward_norm.scale"] = (d,)
    if switch:
        return found | {f"switch.{name}": shape for name, shape in switch.items()}
    gate = {"feed_forward.w_gate": (d, f)} if config.gated else {}
    return found | {"feed_forward.w_in": (d, f)} | gate | {"feed_forward.w_out": (f, d)}


def count_params(params: Mapping[str, Any]) -> int:
    """Return the number of parameters.

    >>> count_params({"a": {"b": np.zeros((2, 3))}, "c": np.zeros(4)})
    10
    """
    return sum(value.size for value in tree.flatten(params).values())
