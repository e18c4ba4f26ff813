"""Generate token after token from a trained model, decoder-only or encoder-decoder.

The decoder has no capacity: an expert's load depends on the other tokens of the batch, and what the
model writes must not. So the keys and values of a token never change, and each step computes only
the new token (`model.decode` with `past`). The encoder keeps the config's capacity if it has
groups="rows", as in transformers, where a row depends only on itself; otherwise it has none.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np import model
from switch_np.conventions.arguments import without_capacity
from switch_np.operations import check, rounded, softmax
from switch_np.transformer.checks import check_params, check_source
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.stack import StackCache


def generate(params: Mapping[str, Any], config: ModelConfig, prompt: np.ndarray, length: int,
             rng: np.random.Generator, *, source: np.ndarray | None = None,
             source_padding: np.ndarray | None = None, temperature: float = 1.0,
             top_k: int | None = None, window: int | None = None, stop: int | None = None,
             cached: bool = True) -> np.ndarray:
    """Return the prompt and up to `length` tokens after it.

    Parameters
    ----------
    prompt
        Integers (S,), or (B, S) for several rows at once; at least one. For an encoder-decoder,
        what the decoder starts with.
    length, rng
        The number of tokens to add; the generator of them, and of the noise that the router's
        conventions have outside training.
    source, source_padding
        Integers (M,) or (B, M) for the encoder, and bool of that shape, True where padding.
    temperature, top_k
        Divides the logits (0: take the likeliest token, at a tie the lowest id); draw from this
        many likeliest tokens (None: all).
    window
        The decoder sees at most the last `window` tokens; None: all. When the window is full it
        starts again from its last half, so that this happens seldom.
    stop
        A row that has produced this token repeats it; once all rows have, nothing is added.
    cached
        False: each step computes everything anew; the same tokens, unless the router draws noise.

    Examples
    --------
    >>> config = ModelConfig(num_layers=2)
    >>> params = model.init(np.random.default_rng(0), config)
    >>> generate(params, config, np.array([72, 105]), 3, np.random.default_rng(0)).shape
    (5,)
    """
    _check(prompt, length, rng, temperature, top_k, window, stop, cached, config)
    ids_BS = np.atleast_2d(prompt)
    source = None if source is None else np.atleast_2d(source)
    padding = None if source_padding is None else np.atleast_2d(source_padding)
    check_source(source, padding, len(ids_BS), config)
    check_params(params, config, finite=True)
    free = _without_capacity(config)
    memory = None if source is None else model.encode(
        params, source, config if config.switch.groups == "rows" else free, padding, rng=rng)

    past: StackCache | None = None
    window = window or ids_BS.shape[1] + length
    start, done_B = max(ids_BS.shape[1] - window, 0), np.zeros(len(ids_BS), bool)
    for _ in range(length):
        if ids_BS.shape[1] - start > window:
            start, past = ids_BS.shape[1] - (window + 1) // 2, None
        seen = start + (past.seen if past and cached else 0)
        logits, past = model.decode(params, ids_BS[:, seen:], free, memory=memory, rng=rng,
                                    memory_padding=padding, past=past if cached else None)
        next_B = _draw(rounded.plain(logits[:, -1]).astype(np.float64), rng, temperature, top_k)
        if stop is not None:
            next_B[done_B] = stop
            done_B |= next_B == stop
        ids_BS = np.column_stack([ids_BS, next_B])
        if done_B.all():
            break
    return ids_BS[0] if prompt.ndim == 1 else ids_BS


def _draw(logits_BV: np.ndarray, rng: np.random.Generator, temperature: float,
          top_k: int | None) -> np.ndarray:
    if temperature == 0:
        return np.asarray(logits_BV.argmax(axis=1))
    if top_k is not None:
        worse_BV = np.argsort(-logits_BV, axis=1, kind="stable")[:, top_k:]
        np.put_along_axis(logits_BV, worse_BV, -np.inf, axis=1)
    probs_BV, _ = softmax.forward(logits_BV / temperature)
    sums_BV = probs_BV.cumsum(axis=1)
    below_BV = sums_BV <= (rng.random(len(sums_BV)) * sums_BV[:, -1])[:, None]
    return np.asarray(below_BV.sum(axis=1))


def _without_capacity(config: ModelConfig) -> ModelConfig:
    """Return the config with room for every token: any capacity would depend on the others."""
    return replace(config, switch=replace(without_capacity(config.switch), groups="all"))


def _check(prompt: np.ndarray, length: int, rng: np.random.Generator, temperature: float,
           top_k: int | None, window: int | None, stop: int | None, cached: bool,
           config: ModelConfig) -> None:
    check.instance("config", config, ModelConfig)
    check.integers("prompt", prompt, ("B", "S") if np.ndim(prompt) == 2 else ("S",), 0,
                   config.vocab_size)
    if prompt.size == 0:
        raise ValueError("prompt must hold at least one token, got none")
    check.integer("length", length, 0)
    check.instance("rng", rng, np.random.Generator)
    check.number("temperature", temperature, 0)
    check.flag("cached", cached)
    for name, value, least, below in (("window", window, 1, None), ("top_k", top_k, 1, None),
                                      ("stop", stop, 0, config.vocab_size)):
        if value is not None:
            check.integer(name, value, least, below)
