"""Every random number of one training step of the layer, drawn before anything is computed.

Drawn first and handed in as a value, the noise can be kept, compared and replayed; the layer itself
is then a plain function. Expert dropout is keyed by choice (token, k), not by slot, so that it
stays with its token whatever the buffers do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check, dropout
from switch_np.switch.config import SwitchConfig


class Noise(NamedTuple):
    """The layer's noise; None where an option is off.

    Attributes
    ----------
    jitter
        (T, D) factors of the router's input, from U(1 - jitter, 1 + jitter).
    input_dropout
        (T, D) bool, True where the router's input is kept.
    gumbel
        (T, E) numbers from the standard Gumbel distribution: the top k of logits + gumbel are k
        draws from the softmax without replacement.
    expert_dropout
        (T, K, F) bool, True where the hidden activation of a choice is kept.
    logits, second, policy, priority
        Of other libraries alone (see `conventions`): (T, E) added to the logits; (T, E) Gumbel
        noise for the later choices; (T, K - 1) uniform numbers that decide whether these are asked
        for; (T, K) numbers of which the largest are served first.
    """

    jitter: np.ndarray | None = None
    input_dropout: np.ndarray | None = None
    gumbel: np.ndarray | None = None
    expert_dropout: np.ndarray | None = None
    logits: np.ndarray | None = None
    second: np.ndarray | None = None
    policy: np.ndarray | None = None
    priority: np.ndarray | None = None


def draw_noise(rng: np.random.Generator, config: SwitchConfig, num_tokens: int, d_model: int,
               d_ff: int, dtype: DTypeLike = np.float64) -> Noise:
    """Draw the noise that `config` asks for, in one fixed order.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=2, jitter=0.01)
    >>> noise = draw_noise(np.random.default_rng(0), config, num_tokens=3, d_model=4, d_ff=8)
    >>> noise.jitter.shape, noise.gumbel
    ((3, 4), None)
    """
    t, d = num_tokens, d_model
    noise = Noise(
        jitter=rng.uniform(1 - config.jitter, 1 + config.jitter, (t, d)).astype(dtype)
        if config.jitter else None,
        input_dropout=dropout.draw(rng, (t, d), config.router_dropout),
        gumbel=rng.gumbel(size=(t, config.num_experts)).astype(dtype) if config.sample else None,
        expert_dropout=dropout.draw(rng, (t, config.num_choices, d_ff), config.expert_dropout))
    if config.foreign:
        from switch_np.switch.variants import noise as others

        noise = others.draw(rng, noise, config, t, dtype)
    return noise


def check_noise(noise: Noise, config: SwitchConfig, x_TD: np.ndarray, d_ff: int) -> None:
    """Refuse noise that is none, or of another shape than the layer's."""
    check.instance("noise", noise, Noise)
    t, d = x_TD.shape
    if noise.jitter is not None:
        check.floats("noise.jitter", noise.jitter, (t, d), like=x_TD, finite=True)
    if noise.input_dropout is not None:
        check.booleans("noise.input_dropout", noise.input_dropout, (t, d))
    if noise.gumbel is not None:
        check.floats("noise.gumbel", noise.gumbel, (t, config.num_experts), like=x_TD, finite=True)
    if noise.expert_dropout is not None:
        check.booleans("noise.expert_dropout", noise.expert_dropout,
                       (t, config.num_choices, d_ff))
    for name in ("logits", "second", "policy", "priority"):
        if getattr(noise, name) is not None and not config.foreign:
            raise ValueError(
                f"noise.{name} must be None with the paper's conventions, got an array")


def router_scale(noise: Noise, router_dropout: float, dtype: DTypeLike) -> np.ndarray | None:
    """Return the (T, D) factors of the router's input, jitter and dropout in one; None for 1."""
    if noise.input_dropout is None:
        return noise.jitter
    ones_TD = noise.jitter
    if ones_TD is None:
        ones_TD = np.ones(noise.input_dropout.shape, dtype)
    return dropout.forward(ones_TD, noise.input_dropout, router_dropout)
