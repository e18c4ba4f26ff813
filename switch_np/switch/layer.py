"""The Switch layer: router, plan, gates, mixture of experts, losses.

Source: sections 2.1 and 2.2 of the paper. For K = 1, y = p_e(x) · FFN_e(x) for a kept token and 0
for a dropped one. `backward` is `forward` read from the bottom up.

Three gradients meet at the router: from y through the gates, from the balance loss into the
probabilities, from the z-loss into log_z; `d_probs_TE` and `d_logits_TE` add those of losses made
outside the layer. Two meet at x: the experts' and the router's.

The casts are selective precision (section 2.4): the router computes in its parameters' precision.
`cast` enters or leaves emulated bfloat16 or float16; between plain arrays it does nothing.
Arguments are taken as they are; `switch_np.switch_layer` checks them and calls this.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations.rounded import cast
from switch_np.switch import balance_loss, gates, mixture, router, z_loss
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan, decide
from switch_np.switch.router import Routing


def choose(routing: Routing, config: SwitchConfig, gumbel_TE: np.ndarray | None, num_groups: int,
           padding_T: np.ndarray | None, training: bool) -> Plan:
    """Return the plan for the most probable experts, or for experts sampled by Gumbel noise."""
    scores_TE = routing.probs_TE if gumbel_TE is None else routing.logits_TE + gumbel_TE
    return decide(scores_TE, config, num_groups, padding_T, training)


class Parts(NamedTuple):
    """The modules that the layer composes, and the function that makes its plan: the paper's."""

    router: Any = router
    choose: Callable[..., Plan] = choose
    gates: Any = gates
    mixture: Any = mixture
    balance_loss: Any = balance_loss
    z_loss: Any = z_loss


class LayerOutput(NamedTuple):
    """What `forward` returns; `backward` needs these arrays unchanged.

    `y`, shaped like x, is 0 for dropped tokens and padding. The losses are scalars, not yet
    multiplied by any coefficient. `probs` and `logits` (T, E) are the router's, `gates` (T, K) the
    weights of the chosen experts, dropped or not; T is B * S for an x (B, S, D). `plan` records
    every decision: `expert`, `slot`, `kept`, `load`, `capacity`, `dropped_fraction`.
    """

    y: np.ndarray
    balance_loss: np.ndarray
    z_loss: np.ndarray
    probs: np.ndarray
    logits: np.ndarray
    gates: np.ndarray
    plan: Plan


class LayerCache(NamedTuple):
    """Saved for backward: the parts and their caches, and what later gradients must fit.

    Nothing is copied: arguments and results must not be changed before `backward`. `plan` and
    `noise` are there to be looked at; `switch_layer` fills in the noise and x's own shape.
    """

    parts: Parts
    shape: tuple[int, ...]
    dtype: np.dtype
    plan: Plan
    probs_TE: np.ndarray
    gates_TK: np.ndarray
    router: Any
    gates: Any
    mixture: Any
    balance: Any
    z: Any
    noise: Any = None


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, config: SwitchConfig,
            plan: Plan | None = None, num_groups: int = 1, padding_T: np.ndarray | None = None,
            scale_TD: np.ndarray | None = None, gumbel_TE: np.ndarray | None = None,
            keep_TKF: np.ndarray | None = None, training: bool = False,
            parts: Parts = Parts()) -> tuple[LayerOutput, LayerCache]:
    """Route every token through its experts.

    `plan` replays decisions; `scale_TD` multiplies the router's input, `gumbel_TE` samples experts,
    `keep_TKF` is the mask of expert dropout.
    """
    router_x_TD = cast(x_TD, like=params["w_router"])
    routing, router_cache = parts.router.forward(params, router_x_TD, scale_TD)
    if plan is None:
        plan = parts.choose(routing, config, gumbel_TE, num_groups, padding_T, training)
    gates_TK, gates_cache = parts.gates.forward(routing.probs_TE, plan)
    gates_TK = cast(gates_TK, like=x_TD)
    rate = config.expert_dropout
    y_TD, mixture_cache = parts.mixture.forward(params, x_TD, gates_TK, plan, keep_TKF, rate)
    balance, balance_cache = parts.balance_loss.forward(routing.probs_TE, plan, padding_T)
    z, z_cache = parts.z_loss.forward(routing.log_z_T, padding_T)
    out = LayerOutput(y_TD, balance, z, routing.probs_TE, routing.logits_TE, gates_TK, plan)
    return out, LayerCache(parts, x_TD.shape, y_TD.dtype, plan, routing.probs_TE, gates_TK,
                           router_cache, gates_cache, mixture_cache, balance_cache, z_cache)


def backward(d_y_TD: np.ndarray, cache: LayerCache, d_balance: float = 0.0, d_z: float = 0.0,
             d_probs_TE: np.ndarray | None = None, d_logits_TE: np.ndarray | None = None
             ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the parameters."""
    parts = cache.parts
    d_log_z_T = parts.z_loss.backward(d_z, cache.z)
    d_balance_TE = parts.balance_loss.backward(d_balance, cache.balance)
    d_probs_TE = d_balance_TE if d_probs_TE is None else d_balance_TE + d_probs_TE
    d_x_TD, d_gates_TK, expert_grads = parts.mixture.backward(d_y_TD, cache.mixture)
    d_gates_TK = cast(d_gates_TK, like=cache.probs_TE)
    d_probs_TE = d_probs_TE + parts.gates.backward(d_gates_TK, cache.gates)
    d_router_x_TD, router_grads = parts.router.backward(d_probs_TE, d_log_z_T, cache.router,
                                                        d_logits_TE)
    d_x_TD += cast(d_router_x_TD, like=d_x_TD)
    return d_x_TD, router_grads | expert_grads
