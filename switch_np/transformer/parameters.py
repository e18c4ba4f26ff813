"""The parameters of a model: drawn, checked and counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check, tree
from switch_np.operations.initialization import truncated_normal
from switch_np.switch import layer as switch_layer
from switch_np.transformer.config import ModelConfig


def init(rng: np.random.Generator, config: ModelConfig,
         dtype: DTypeLike = np.float64) -> dict[str, Any]:
    """Draw the parameters, a nested dict such as params["decoder"]["1"]["switch"]["w_in"].

    Weights are truncated normal with standard deviation √(init_scale / fan-in); the queries' fan-in
    counts the width of a head too, since T5 does not divide the scores by its root. The embedding
    counts as fan-in 1, norms start at 1.

    Examples
    --------
    >>> params = init(np.random.default_rng(0), ModelConfig(num_layers=2))
    >>> list(params["decoder"]["1"])
    ['attention_norm', 'attention', 'feed_forward_norm', 'switch']
    """
    check.instance("rng", rng, np.random.Generator)
    check.instance("config", config, ModelConfig)
    v, d, f, scale = config.vocab_size, config.d_model, config.d_ff, config.init_scale
    heads, width = config.num_heads, config.num_heads * config.d_kv

    def draw(shape: tuple[int, ...], fan_in: int) -> np.ndarray:
        return truncated_normal(rng, shape, fan_in, scale, dtype)

    decoder: dict[str, Any] = {"position_bias": {"table": draw((config.num_buckets, heads), d)}}
    for layer in range(config.num_layers):
        decoder[str(layer)] = {
            "attention_norm": {"scale": np.ones(d, dtype)},
            "attention": {"w_q": draw((d, width), d * config.d_kv), "w_k": draw((d, width), d),
                          "w_v": draw((d, width), d), "w_o": draw((width, d), width)},
            "feed_forward_norm": {"scale": np.ones(d, dtype)}}
        if config.is_switch(layer):
            decoder[str(layer)]["switch"] = switch_layer.init(
                rng, d, f, config.switch, scale, dtype)
        else:
            decoder[str(layer)]["feed_forward"] = {
                "w_in": draw((d, f), d), "w_out": draw((f, d), f)}
    decoder["final_norm"] = {"scale": np.ones(d, dtype)}
    return {"embedding": {"table": draw((v, d), 1)},
            "decoder": decoder}


def check_params(params: Mapping[str, Any], config: ModelConfig) -> None:
    """Refuse parameters of another structure, shape or precision than the config's."""
    shapes, flat = _shapes(config), tree.flatten(params)
    check.keys("params", flat, set(shapes))
    first = flat["embedding.table"]
    check.floats("params['embedding.table']", first, shapes["embedding.table"])
    for name, value in flat.items():
        check.floats(f"params[{name!r}]", value, shapes[name], like=first)


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its path name."""
    d, f = config.d_model, config.d_ff
    width = config.num_heads * config.d_kv
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.table": (config.vocab_size, d),
        "decoder.position_bias.table": (config.num_buckets, config.num_heads),
        "decoder.final_norm.scale": (d,)}
    for layer in range(config.num_layers):
        mine = {"attention_norm.scale": (d,), "feed_forward_norm.scale": (d,),
                "attention.w_q": (d, width), "attention.w_k": (d, width),
                "attention.w_v": (d, width), "attention.w_o": (width, d)}
        if config.is_switch(layer):
            mine |= {f"switch.{name}": shape
                     for name, shape in switch_layer.shapes(d, f, config.switch).items()}
        else:
            mine |= {"feed_forward.w_in": (d, f), "feed_forward.w_out": (f, d)}
        shapes |= {f"decoder.{layer}.{name}": shape for name, shape in mine.items()}
    return shapes


def count_params(params: Mapping[str, Any]) -> int:
    """Return the number of parameters.

    >>> count_params({"a": {"b": np.zeros((2, 3))}, "c": np.zeros(4)})
    10
    """
    return sum(math.prod(value.shape) for value in tree.flatten(params).values())
