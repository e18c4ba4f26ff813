"""The modules of a layer under its config's conventions: the paper's, or those that replace them.

`switch.layer` composes modules and knows no other library. A replacement is a module of this folder
whose `forward` is given here, in advance, the conventions and whatever else it needs.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from switch_np.conventions import (
    general_balance_loss, general_mixture, general_z_loss, renormalise, scores, serve)
from switch_np.conventions.noise import Noise
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import Parts
from switch_np.switch.plan import Plan
from switch_np.switch.router import Routing


class Part(NamedTuple):
    """A module with some of its arguments given."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


def parts(config: SwitchConfig, params: Mapping[str, np.ndarray], noise: Noise,
          padding_T: np.ndarray | None, training: bool) -> Parts:
    """Return the modules of which `switch.layer` is to compose this layer.

    >>> parts(SwitchConfig(), {}, Noise(), None, False) == Parts()
    True
    """
    if config.conventions.papers:
        return Parts()
    conventions = config.conventions
    jitter_TD = noise.jitter if conventions.jitter_reach == "experts" else None

    def choose(routing: Routing, config: SwitchConfig, _: np.ndarray | None, num_groups: int,
               padding_T: np.ndarray | None, training: bool) -> Plan:
        return serve.decide(routing.probs_TE, routing.logits_TE, config, num_groups=num_groups,
                            padding_T=padding_T, noise=noise, bias_E=params.get("select_bias"),
                            training=training)

    bound = Parts(
        Part(partial(scores.forward, kind=conventions.scores, noise_TE=noise.logits),
             scores.backward),
        choose,
        Part(partial(renormalise.forward, conventions=conventions), renormalise.backward),
        Part(partial(general_mixture.forward, conventions=conventions, padding_T=padding_T,
                     jitter_TD=jitter_TD), general_mixture.backward),
        Part(partial(general_balance_loss.forward, conventions=conventions),
             general_balance_loss.backward),
        Part(partial(general_z_loss.forward, conventions=conventions, training=training,
                     num_experts=config.num_experts), general_z_loss.backward))
    if conventions.padding_routing == "first_experts" and padding_T is not None:
        real_T1 = ~padding_T[:, None]
        bound = bound._replace(
            choose=lambda routing, *rest: choose(
                routing._replace(probs_TE=routing.probs_TE * real_T1), *rest),
            gates=_masked(bound.gates, real_T1), balance_loss=_masked(bound.balance_loss, real_T1))
    return bound


def _masked(part: Part, real_T1: np.ndarray) -> Part:
    """Return a module for which the probabilities of padding are 0, forwards and backwards."""
    return Part(lambda probs_TE, *rest: part.forward(probs_TE * real_T1, *rest),
                lambda d_value, cache: part.backward(d_value, cache) * real_T1)
