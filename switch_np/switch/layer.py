"""The Switch layer: router, plan, gates, dispatch, experts and combine, one after the other.

Source: sections 2.1 and 2.2 of the paper. For a kept token y = p_e(x) · FFN_e(x); for a dropped one
y = 0. `backward` is `forward` read from the bottom up, a line for a line.

The router meets three gradients: through the gates (from y), through the load-balancing loss (into
the probabilities) and through the z-loss (into log_z). x meets two: as the experts' input and as
the router's.

The casts are those of selective precision (section 2.4, `selective`); to plain arrays they do
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import check, rounded, threads
from switch_np.switch import (
    arguments, balance_loss, combine, dispatch, experts, gates, noise as noises, plan as plans,
    router, z_loss)
from switch_np.switch.config import SwitchConfig
from switch_np.switch.noise import Noise
from switch_np.switch.parameters import init, shapes, variant
from switch_np.switch.plan import Plan

__all__ = ["LayerCache", "LayerOutput", "backward", "forward", "init", "shapes"]


class LayerOutput(NamedTuple):
    """What the layer gives; `backward` needs the arrays as they are: see `LayerCache`.

    Attributes
    ----------
    y
        The output, shaped like x; 0 for dropped tokens and padding.
    balance_loss, z_loss
        Scalars, not yet multiplied by any coefficient.
    probs, logits
        (T, E) of the router; T is B * S for a (B, S, D) input.
    gates
        (T, K) the weights of the chosen experts, dropped or not.
    plan
        All that was decided: `expert`, `slot`, `kept`, `load`, `capacity`, `dropped_fraction`.
    """

    y: np.ndarray
    balance_loss: np.ndarray
    z_loss: np.ndarray
    probs: np.ndarray
    logits: np.ndarray
    gates: np.ndarray
    plan: Plan


class LayerCache(NamedTuple):
    """Kept: the caches of the parts, the probabilities and the plan.

    Nothing is copied: x, the parameters and the output's `probs`, `logits` and `gates` are the
    caller's own arrays, and must not be changed before `backward`.
    """

    shape: tuple[int, ...]
    router: router.RouterCache
    experts: experts.ExpertsCache
    combine: combine.CombineCache
    balance: balance_loss.BalanceCache
    z: z_loss.ZCache
    probs_TE: np.ndarray
    plan: Plan


def forward(params: Mapping[str, np.ndarray], x: np.ndarray, config: SwitchConfig, *,
            plan: Plan | None = None, padding: np.ndarray | None = None,
            noise: Noise | None = None, rng: np.random.Generator | None = None,
            training: bool = False) -> tuple[LayerOutput, LayerCache]:
    """Route every token through its experts.

    Parameters
    ----------
    params
        As `init` gives them.
    x
        Tokens (T, D) or (B, S, D), float32 or float64; complex for a complex step.
    config
        What to compute.
    plan
        Replay these decisions, made for the same padding, instead of making new ones.
    padding
        Bool (T,) or (B, S), True where the token is padding: y is 0 there, no slot is taken, and no
        loss counts it. Conventions may treat it otherwise.
    noise
        Replay this noise, in training or not.
    rng
        Where the noise comes from in training, if none is handed in.
    training
        Switches the noise on and chooses the capacity factor.

    Raises
    ------
    TypeError, ValueError
        Where an argument does not fit; the message names it.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=4, capacity_factor=1.0)
    >>> rng = np.random.default_rng(0)
    >>> params = init(rng, d_model=8, d_ff=16, config=config)
    >>> out, cache = forward(params, rng.standard_normal((12, 8)), config)
    >>> out.y.shape, out.plan.capacity, out.plan.load.tolist()
    ((12, 8), 3, [[4, 2, 4, 2]])
    """
    x_TD, padding_T, num_groups = arguments.checked(params, x, config, padding)
    noise = arguments.noise_for(params, x_TD, config, noise, rng, plan is not None, training)
    if plan is not None:
        plans.check_plan(plan, config, len(x_TD), num_groups, padding_T)
    if config.foreign:
        return variant().forward(params, x_TD, config, x.shape, num_groups, plan=plan,
                                 padding_T=padding_T, noise=noise, training=training)

    scale_TD = noises.router_scale(noise, config.router_dropout, x_TD.real.dtype)
    x_TD = rounded.cast(x_TD, like=params["w_in"])
    routed_TD = rounded.cast(x_TD, like=params["w_router"])
    routing, router_cache = router.forward(params, routed_TD, scale_TD)
    if plan is None:
        scores_TE = routing.probs_TE if noise.gumbel is None else routing.logits_TE + noise.gumbel
        plan = plans.decide(scores_TE, config, num_groups=num_groups, padding_T=padding_T,
                            training=training)
    gates_TK = rounded.cast(gates.forward(routing.probs_TE, plan), like=x_TD)
    rows_RD = dispatch.forward(x_TD, plan)
    out_RD, experts_cache = experts.forward(
        params, rows_RD, plan, noise.expert_dropout, config.expert_dropout)
    y_TD, combine_cache = combine.forward(out_RD, gates_TK, plan)
    balance, balance_cache = balance_loss.forward(routing.probs_TE, plan, padding_T)
    z, z_cache = z_loss.forward(routing.log_z_T, padding_T)

    out = LayerOutput(y_TD.reshape(x.shape), balance, z, routing.probs_TE, routing.logits_TE,
                      gates_TK, plan)
    return out, LayerCache(x.shape, router_cache, experts_cache, combine_cache, balance_cache,
                           z_cache, routing.probs_TE, plan)


def backward(d_y: np.ndarray, cache: LayerCache, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0, *, d_probs: np.ndarray | None = None,
             d_logits: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x, shaped like x, and the gradients of the parameters.

    Parameters
    ----------
    d_y
        Gradient arriving at y, shaped like it.
    cache
        From `forward`.
    d_balance_loss, d_z_loss
        Gradients arriving at the losses: their coefficients, if they are added to the objective.
    d_probs, d_logits
        (T, E) what else reaches the router's outputs, for losses made outside (such as those that
        pool several layers).

    Examples
    --------
    >>> config = SwitchConfig(num_experts=4)
    >>> rng = np.random.default_rng(0)
    >>> params = init(rng, d_model=8, d_ff=16, config=config)
    >>> out, cache = forward(params, rng.standard_normal((12, 8)), config)
    >>> d_x, grads = backward(np.ones((12, 8)), cache, d_balance_loss=0.01)
    >>> d_x.shape, sorted(grads)
    ((12, 8), ['w_in', 'w_out', 'w_router'])
    """
    if not isinstance(cache, LayerCache):
        check.instance("cache", cache, variant().LayerCache)
    probs_TE = cache.probs_TE
    step = any(map(np.iscomplexobj, (probs_TE, cache.combine.out_RD)))
    for name, value, shape in (("d_y", d_y, cache.shape), ("d_probs", d_probs, probs_TE.shape),
                               ("d_logits", d_logits, probs_TE.shape)):
        if value is not None or name == "d_y":
            check.floats(name, value, shape, like=probs_TE)
            if np.iscomplexobj(value) and not step:
                raise TypeError(f"{name} must be real, as x and params were, got {value.dtype}")
    check.number("d_balance_loss", d_balance_loss)
    check.number("d_z_loss", d_z_loss)
    d_y_TD = d_y.reshape(len(probs_TE), cache.shape[-1])
    if not isinstance(cache, LayerCache):
        d_x_TD, grads = variant().backward(d_y_TD, cache, float(d_balance_loss), float(d_z_loss),
                                           d_probs, d_logits)
        return d_x_TD.reshape(cache.shape), grads

    d_y_TD = rounded.cast(d_y_TD, like=cache.combine.gates_TK)
    d_log_z_T = z_loss.backward(float(d_z_loss), cache.z) if d_z_loss else None
    d_out_RD, d_gates_TK = combine.backward(d_y_TD, cache.combine)
    d_rows_RD, expert_grads = experts.backward(d_out_RD, cache.experts)
    del d_out_RD              # what is no longer needed goes before the next array is made
    d_x_TD = dispatch.backward(d_rows_RD, cache.plan)
    del d_rows_RD
    d_probs_TE = gates.backward(d_gates_TK, cache.probs_TE, cache.plan)
    d_probs_TE += balance_loss.backward(float(d_balance_loss), cache.balance)
    if d_probs is not None:
        d_probs_TE += d_probs
    d_routed_TD, router_grads = router.backward(
        router.Router(d_logits, d_probs_TE, d_log_z_T), cache.router)
    d_routed_TD = rounded.cast(d_routed_TD, like=cache.combine.gates_TK)
    _add(d_x_TD, d_routed_TD)
    return d_x_TD.reshape(cache.shape), router_grads | expert_grads


def _add(to_TD: np.ndarray, more_TD: np.ndarray) -> None:
    """Add in place."""
    def run(part: slice) -> None:
        d_x_TD, d_routed_TD = to_TD[part], more_TD[part]
        d_x_TD += d_routed_TD

    threads.over(run, to_TD.shape, size=to_TD.size // dispatch.COPY)
