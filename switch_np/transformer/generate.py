"""Generate token after token from a trained model.

Without a capacity: how full an expert is depends on the other tokens of the batch, and the text
that a model writes must not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np.operations import check, softmax
from switch_np.transformer import model
from switch_np.transformer.config import ModelConfig


def generate(params: Mapping[str, Any], config: ModelConfig, prompt: np.ndarray, length: int,
             rng: np.random.Generator, *, temperature: float = 1.0, top_k: int | None = None,
             window: int = 128) -> np.ndarray:
    """Return the prompt and `length` tokens after it.

    Parameters
    ----------
    params, config
        The model.
    prompt
        (S,) integers, at least one.
    length
        Tokens to add.
    rng
        Draws them.
    temperature
        Divides the logits; 0 takes the likeliest token, the lowest id at a tie.
    top_k
        Draw among this many likeliest tokens; None: all.
    window
        The model sees at most this many of the last tokens.

    Examples
    --------
    >>> config = ModelConfig(num_layers=2)
    >>> params = model.init(np.random.default_rng(0), config)
    >>> generate(params, config, np.array([72, 105]), 3, np.random.default_rng(0)).shape
    (5,)
    """
    check.integers("prompt", prompt, ("S",), 0, config.vocab_size)
    if len(prompt) == 0:
        raise ValueError("prompt must hold at least one token, got none")
    check.integer("length", length, 0)
    check.instance("rng", rng, np.random.Generator)
    check.number("temperature", temperature, 0)
    check.integer("window", window, 1)
    if top_k is not None:
        check.integer("top_k", top_k, 1)
    free = replace(config.switch, capacity=None, capacity_factor=None, eval_capacity_factor="same")
    config = replace(config, switch=free)
    ids = list(map(int, prompt))
    for _ in range(length):
        logits, _, _ = model.forward(params, np.array([ids[-window:]]), config)
        ids.append(_draw(logits[0, -1].astype(np.float64), rng, temperature, top_k))
    return np.array(ids)


def _draw(logits_V: np.ndarray, rng: np.random.Generator, temperature: float,
          top_k: int | None) -> int:
    """Return one token id."""
    if temperature == 0:
        return int(logits_V.argmax())
    if top_k is not None:
        logits_V[np.argsort(-logits_V, kind="stable")[top_k:]] = -np.inf
    probs_V, _ = softmax.forward(logits_V / temperature)
    return int(np.searchsorted(probs_V.cumsum(), rng.random() * probs_V.sum(), side="right"))
