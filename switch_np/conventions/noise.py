"""All random numbers of one training step of the layer, drawn before anything is computed.

Noise is a value that can be kept, compared and replayed; the layer is a plain function of it.
Expert dropout is indexed by choice (token, k), not by slot, so it does not depend on the buffers.

Source: the paper's appendix C (jitter, input dropout, sampling) and section 2.4 (expert dropout);
Tutel, ST-MoE in PyTorch, nanoMoE (noise on the logits), DeepSpeed, fairseq (sampled second choice),
Mesh TensorFlow, lucidrains (second choice used at random), DeepSpeed, labml (random priority).
"""

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check, dropout
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


class Noise(NamedTuple):
    """The layer's noise; a field is None where its option is off.

    Attributes
    ----------
    jitter
        (T, D) factors of the router's input, drawn from U(1 - jitter, 1 + jitter).
    input_dropout
        (T, D) bool, True where the router's input is kept.
    gumbel
        (T, E) standard Gumbel noise: the k largest of logits + gumbel are k draws from the softmax
        without replacement.
    expert_dropout
        (T, K, F) bool, True where the hidden activation of a choice is kept.
    logits, second, policy, priority
        For other libraries: (T, E) added to the logits; (T, E) Gumbel noise that draws the later
        choices; (T, K - 1) uniform numbers that decide whether later choices are used; (T, K)
        numbers, of which the largest are served first.
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
               d_ff: int, dtype: Any = np.float64) -> Noise:
    """Draw the noise that `config` asks for, in a fixed order.

    >>> config = SwitchConfig(num_experts=2, jitter=0.01)
    >>> noise = draw_noise(np.random.default_rng(0), config, num_tokens=3, d_model=4, d_ff=8)
    >>> noise.jitter.shape, noise.gumbel
    ((3, 4), None)
    """
    t, e, k, j = num_tokens, config.num_experts, config.num_choices, config.jitter
    jitter = rng.random((t, d_model), dtype) * (2 * j) + (1 - j) if j else None
    input_dropout = dropout.draw(rng, (t, d_model), config.router_dropout)
    gumbel = rng.gumbel(size=(t, e)).astype(dtype) if config.sample else None
    expert_dropout = dropout.draw(rng, (t, k, d_ff), config.expert_dropout)
    noise = Noise(jitter, input_dropout, gumbel, expert_dropout)
    return noise if config.conventions.papers else _draw_more(rng, noise, config, t, dtype)


def _draw_more(rng: np.random.Generator, noise: Noise, config: SwitchConfig, t: int,
               dtype: DTypeLike) -> Noise:
    """Add what only other libraries draw."""
    conventions, e, k = config.conventions, config.num_experts, config.num_choices
    if conventions.logit_noise != "none":
        drawn_TE = (rng.gumbel if conventions.logit_noise == "gumbel" else rng.normal)(size=(t, e))
        noise = noise._replace(logits=(drawn_TE * conventions.logit_noise_scale).astype(dtype))
    if conventions.second_choice == "sampled":
        noise = noise._replace(second=rng.gumbel(size=(t, e)).astype(dtype))
    if conventions.second_policy == "random":
        noise = noise._replace(policy=rng.random((t, k - 1)).astype(dtype))
    if conventions.priority == "random":
        noise = noise._replace(priority=rng.random((t, k)).astype(dtype))
    return noise


def noise_for(noise: Noise | None, config: SwitchConfig, x_TD: np.ndarray, d_ff: int,
              rng: np.random.Generator | None, plan: Plan | None, training: bool) -> Noise:
    """Return the given noise, checked; if there is none, draw what the config asks for."""
    if noise is not None:
        check_noise(noise, config, x_TD, d_ff, replayed=plan is not None)
        return noise
    if rng is not None:
        check.instance("rng", rng, np.random.Generator)
    if plan is not None and (rng is None or not training):
        config = decided(config, Noise())
    if not training:
        config = outside_training(config)
    if not config.noisy:
        return Noise()
    if rng is None:
        raise ValueError("rng must be a Generator (or noise= be given) " + (
            "when training=True and the config has noise, got None; jitter=0.0 switches the jitter "
            "off" if training and config.conventions.papers else
            "since these conventions draw random numbers here, got None"))
    return draw_noise(rng, config, len(x_TD), x_TD.shape[1], d_ff, x_TD.real.dtype)


def decided(config: SwitchConfig, noise: Noise) -> SwitchConfig:
    """Return the config for a replayed plan: without the noise that its choices would have needed.

    >>> decided(SwitchConfig(sample=True), Noise()).sample
    False
    """
    conventions = config.conventions
    if conventions.second_choice == "sampled" and noise.second is None:
        conventions = replace(conventions, second_choice="largest")
    if conventions.second_policy == "random" and noise.policy is None:
        conventions = replace(conventions, second_policy="all")
    if conventions.priority == "random" and noise.priority is None:
        conventions = replace(conventions, priority="choice")
    sample = config.sample and noise.gumbel is not None
    if conventions is config.conventions and sample == config.sample:
        return config                            # `replace` would check every option again
    return replace(config, conventions=conventions, sample=sample)


@cache
def outside_training(config: SwitchConfig) -> SwitchConfig:
    """Return the config with only the noise that is also drawn outside training.

    That is the noise of noise_when="always", and what the choices need.
    """
    conventions = config.conventions
    quiet: dict[str, Any] = {"sample": False, "expert_dropout": 0.0}
    if conventions.noise_when == "training":
        quiet |= {"jitter": 0.0, "router_dropout": 0.0}
        conventions = replace(conventions, logit_noise="none")
    return replace(config, conventions=conventions, **quiet)


def check_noise(noise: Noise, config: SwitchConfig, x_TD: np.ndarray, d_ff: int,
                replayed: bool = False) -> None:
    """Refuse noise that does not fit the layer, or is missing although the plan depends on it."""
    check.instance("noise", noise, Noise)
    (t, d), e, k = x_TD.shape, config.num_experts, config.num_choices
    conventions = config.conventions
    shapes = {"jitter": (t, d), "gumbel": (t, e), "logits": (t, e), "second": (t, e),
              "policy": (t, k - 1), "priority": (t, k)}
    for name, shape in (("input_dropout", (t, d)), ("expert_dropout", (t, k, d_ff))):
        if getattr(noise, name) is not None:
            check.booleans(f"noise.{name}", getattr(noise, name), shape)
    for name, knob, asked in (
            ("logits", "logit_noise", conventions.logit_noise != "none"),
            ("second", "second_choice", conventions.second_choice == "sampled"),
            ("policy", "second_policy", conventions.second_policy == "random"),
            ("priority", "priority", conventions.priority == "random")):
        there, why = getattr(noise, name) is not None, f"{knob}={getattr(conventions, knob)!r}"
        if there and not asked:
            why = "the paper's conventions" if conventions.papers else why
            raise ValueError(f"noise.{name} must be None with {why}, got an array")
        if asked and not there and name != "logits" and not replayed:
            raise ValueError(f"noise.{name} must be given, an array {shapes[name]}, with {why}, "
                             "got None")
    for name, shape in shapes.items():
        if getattr(noise, name) is not None:
            check.floats(f"noise.{name}", getattr(noise, name), shape, like=x_TD, finite=True)


def router_scale(noise: Noise, router_dropout: float, dtype: DTypeLike) -> np.ndarray | None:
    """Return the (T, D) factors of the router's input, jitter times dropout; None for 1."""
    if noise.input_dropout is None:
        return noise.jitter
    jitter_TD = np.ones(noise.input_dropout.shape, dtype) if noise.jitter is None else noise.jitter
    return dropout.forward(jitter_TD, noise.input_dropout, router_dropout)
