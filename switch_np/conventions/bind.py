"""The parts from which `switch.layer` composes a layer: the paper's, or this folder's."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from switch_np.conventions import general_losses, general_mixture, renormalise, scores, serve
from switch_np.conventions.noise import Noise
from switch_np.operations import check, softmax
from switch_np.switch import router, z_loss
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import Parts
from switch_np.switch.plan import Plan
from switch_np.switch.router import Routing


class Part(NamedTuple):
    """A part with some of its arguments bound."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


def parts(config: SwitchConfig, params: Mapping[str, np.ndarray], noise: Noise,
          padding_T: np.ndarray | None, training: bool) -> Parts:
    """Return the parts of a layer under its config's conventions.

    >>> parts(SwitchConfig(), {}, Noise(), None, False) == PAPERS
    True
    """
    conventions = config.conventions
    if conventions.papers:
        return PAPERS
    jitter_TD = noise.jitter if conventions.jitter_reach == "experts" else None
    plan_of = partial(choose, noise=noise, bias_E=params.get("select_bias"))
    bound = Parts(
        Refusing(Part(partial(scores.forward, kind=conventions.scores, noise_TE=noise.logits),
                      scores.backward)),
        plan_of,
        Part(partial(renormalise.forward, conventions=conventions), renormalise.backward),
        Part(partial(general_mixture.forward, conventions=conventions, padding_T=padding_T,
                     jitter_TD=jitter_TD), general_mixture.backward),
        Part(partial(general_losses.balance, conventions=conventions,
                     f_E=params.get("balance_f"),
                     num_counted=max(config.num_choices, config.num_tries)),
             general_losses.balance_backward),
        Part(partial(general_losses.z, conventions=conventions, num_experts=config.num_experts,
                     training=training), z_loss.backward))
    if conventions.padding_routing == "first_experts" and padding_T is not None:
        real_T1 = ~padding_T[:, None]
        bound = bound._replace(
            choose=lambda routing, *rest: plan_of(
                routing._replace(probs_TE=routing.probs_TE * real_T1), *rest),
            gates=_masked(bound.gates, real_T1), balance_loss=_masked(bound.balance_loss, real_T1))
    return _by_softmax(bound) if conventions.balance_probs == "softmax" else bound


class Refusing(NamedTuple):
    """A router that refuses logits that overflow, before they are used."""

    router: Any

    def forward(self, *args: Any) -> tuple[Routing, Any]:
        """Return what the router returns, without NumPy's warning of an overflow."""
        with np.errstate(over="ignore", invalid="ignore"):
            routing, cache = self.router.forward(*args)
        check.floats("logits", routing.logits_TE, routing.logits_TE.shape, finite=True)
        return routing, cache

    @property
    def backward(self) -> Any:
        """The router's own."""
        return self.router.backward


PAPERS = Parts(router=Refusing(router))


def choose(routing: Routing, config: SwitchConfig, gumbel_TE: np.ndarray | None, num_groups: int,
           padding_T: np.ndarray | None, training: bool, *, noise: Noise,
           bias_E: np.ndarray | None) -> Plan:
    """Return the plan; the Gumbel noise is taken from `noise`."""
    return serve.decide(routing.probs_TE, routing.logits_TE, config, num_groups=num_groups,
                        padding_T=padding_T, noise=noise, bias_E=bias_E, training=training)


def _by_softmax(bound: Parts) -> Parts:
    """Return parts whose balance loss takes the softmax of the logits in place of the scores.

    The layer passes only scores from router to loss, and back only their gradient. So the router
    keeps the softmax here for the loss, and the loss its gradient for the router.
    """
    softmax_TE: list[np.ndarray] = []
    d_logits_TE: list[np.ndarray] = []

    def leave_softmax(*args: Any) -> tuple[Routing, Any]:
        routing, cache = bound.router.forward(*args)
        softmax_TE[:] = [softmax.forward(routing.logits_TE)[0]]
        return routing, cache

    def leave_gradient(d_loss: float, cache: Any) -> np.ndarray:
        d_softmax_TE = bound.balance_loss.backward(d_loss, cache)
        d_logits_TE[:] = [softmax.backward(d_softmax_TE, softmax_TE[0])]
        return np.zeros_like(d_softmax_TE)

    def take_gradient(d_probs_TE: np.ndarray, d_log_z_T: np.ndarray, cache: Any,
                      d_more_TE: np.ndarray | None = None) -> Any:
        d_all_TE = d_logits_TE[0] if d_more_TE is None else d_logits_TE[0] + d_more_TE
        return bound.router.backward(d_probs_TE, d_log_z_T, cache, d_all_TE)

    return bound._replace(router=Part(leave_softmax, take_gradient), balance_loss=Part(
        lambda _, *rest: bound.balance_loss.forward(softmax_TE[0], *rest), leave_gradient))


def _masked(part: Part, real_T1: np.ndarray) -> Part:
    """Return a part that treats the probabilities of padding as 0, forwards and backwards."""
    return Part(lambda probs_TE, *rest: part.forward(probs_TE * real_T1, *rest),
                lambda d_value, cache: part.backward(d_value, cache) * real_T1)
