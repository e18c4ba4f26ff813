"""The random numbers of other libraries, drawn before anything is computed.

Source: Tutel, ST-MoE in PyTorch and nanoMoE (noise on the logits); DeepSpeed and fairseq (a sampled
second choice); Mesh TensorFlow and lucidrains (a second choice asked for at random); DeepSpeed and
labml (who is served first).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check
from switch_np.switch.config import SwitchConfig
from switch_np.switch.noise import Noise


def draw(rng: np.random.Generator, noise: Noise, config: SwitchConfig, num_tokens: int,
         dtype: DTypeLike, training: bool = True) -> Noise:
    """Add to `noise` what the conventions ask for.

    >>> config = SwitchConfig.like("mesh_tf_top2", num_experts=4)
    >>> draw(np.random.default_rng(0), Noise(), config, 3, np.float64).policy.shape
    (3, 1)
    """
    rules, t, e, k = config.conventions, num_tokens, config.num_experts, config.num_choices
    if rules.logit_noise != "none" and (training or rules.noise_when == "always"):
        drawn_TE = (rng.gumbel if rules.logit_noise == "gumbel" else rng.normal)(size=(t, e))
        noise = noise._replace(logits=(drawn_TE * rules.logit_noise_scale).astype(dtype))
    if rules.second_choice == "sampled":
        noise = noise._replace(second=rng.gumbel(size=(t, e)).astype(dtype))
    if rules.second_policy == "random":
        noise = noise._replace(policy=rng.random((t, k - 1)).astype(dtype))
    if rules.priority == "random":
        noise = noise._replace(priority=rng.random((t, k)).astype(dtype))
    return noise


def checked(noise: Noise, config: SwitchConfig, x_TD: np.ndarray, replayed: bool) -> None:
    """Refuse noise of another shape, and, unless a plan is replayed, noise that is missing."""
    rules, t, e, k = config.conventions, len(x_TD), config.num_experts, config.num_choices
    for name, shape, knob, off in (("logits", (t, e), "logit_noise", "none"),
                                   ("second", (t, e), "second_choice", "largest"),
                                   ("policy", (t, k - 1), "second_policy", None),
                                   ("priority", (t, k), "priority", None)):
        value, setting = getattr(noise, name), getattr(rules, knob)
        asked = setting != off if off else setting == "random"
        if value is not None:
            if not asked:
                raise ValueError(f"noise.{name} must be None with {knob}={setting!r}, got an array")
            check.floats(f"noise.{name}", value, shape, like=x_TD, finite=True)
        elif asked and name != "logits" and not replayed:
            raise ValueError(f"noise.{name} must be given, an array {shape}, with "
                             f"{knob}={setting!r}, got None")
