"""The Switch layer under other libraries' conventions.

The same sequence as the paper's layer, router, plan, gates, dispatch, experts and combine, with the
places where libraries differ filled in: noise on the logits, gates at the input, something in place
of a dropped token, a shared expert, other ways to count. With the paper's own conventions it gives
the paper's numbers. `backward` is `forward` read from the bottom up.

Where a library stops or straightens a gradient, the number held fixed is the real part of the
variable: under a complex step the forward then is the function whose gradient `backward` returns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.conventions.table import Conventions
from switch_np.operations import check
from switch_np.switch import balance_loss, combine, dispatch, layer, z_loss
from switch_np.switch import noise as noises
from switch_np.switch.config import SwitchConfig
from switch_np.switch.noise import Noise
from switch_np.switch.plan import Plan
from switch_np.switch.router import Router
from switch_np.switch.variants import (
    balance,
    decide,
    experts,
    gates,
    passing,
    router,
    second_place,
    shared,
    shares,
    weigh,
)
from switch_np.switch.variants import noise as drawn


class LayerCache(NamedTuple):
    """Kept: the caches of the parts, and what the places between them need."""

    shape: tuple[int, ...]
    rules: Conventions
    plan: Plan
    noise: Noise
    x_TD: np.ndarray
    probs_TE: np.ndarray
    gates_TK: np.ndarray
    real_T: np.ndarray
    lost_T: np.ndarray
    balance_weight_T1: np.ndarray
    rows_RD: np.ndarray
    input_TK: np.ndarray | None
    router: router.RouterCache
    gates: gates.GatesCache
    experts: experts.ExpertsCache
    combine: combine.CombineCache
    shared: shared.SharedCache
    chosen: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    balance: balance_loss.BalanceCache
    second: second_place.SecondCache | None
    z: z_loss.ZCache


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, config: SwitchConfig,
            shape: tuple[int, ...], num_groups: int, *, plan: Plan | None,
            padding_T: np.ndarray | None, noise: Noise,
            training: bool) -> tuple[layer.LayerOutput, LayerCache]:
    """Route every token through its experts; `layer.forward` has checked the arguments."""
    rules = config.conventions
    t, e = len(x_TD), config.num_experts
    real_T = np.ones(t, bool) if padding_T is None else ~padding_T
    scale_TD = noises.router_scale(noise, config.router_dropout, x_TD.real.dtype)
    if rules.jitter_reach == "experts" and noise.jitter is not None:
        x_TD = x_TD * noise.jitter
        scale_TD = noises.router_scale(noise._replace(jitter=None), config.router_dropout,
                                       x_TD.real.dtype)

    routing, router_cache = router.forward(params, x_TD, rules.scores, scale_TD, noise.logits)
    probs_TE = routing.probs_TE
    if rules.padding_routing == "first_experts":
        probs_TE = probs_TE * real_T[:, None]
    if plan is None:
        plan = decide.decide(probs_TE, routing.logits_TE, config, num_groups=num_groups,
                             padding_T=padding_T, noise=noise, bias_E=params.get("select_bias"),
                             training=training)
    gates_TK, gates_cache = gates.forward(probs_TE, plan, rules)
    input_TK, output_TK = _where(gates_TK, rules)

    clean_RD = dispatch.forward(x_TD, plan)
    rows_RD = clean_RD if input_TK is None else weigh.forward(clean_RD, input_TK, plan)
    out_RD, experts_cache = experts.forward(
        params, rows_RD, plan, rules, noise.expert_dropout, config.expert_dropout)
    y_TD, combine_cache = combine.forward(out_RD, output_TK, plan)
    served_T = real_T if rules.padding_routing == "left_out" else np.ones(t, bool)
    lost_T = served_T & ~plan.kept.any(axis=1)
    if rules.dropped != "zero":
        y_TD = y_TD + passing.forward(x_TD, gates_TK, lost_T, rules.dropped == "gated_identity")
    shared_TD, shared_cache = shared.forward(params, x_TD, served_T, rules)

    counted_TE, chosen = _counted(probs_TE, plan, rules)
    weight_T1 = balance.weights(plan.group, num_groups, plan.expert.shape[1], padding_T, rules)
    weight_T1 = weight_T1.astype(x_TD.real.dtype)[:, None]
    loss, balance_cache = balance_loss.forward(counted_TE * weight_T1, plan)
    second_cache = None
    if rules.second_balance:
        second, second_cache = second_place.forward(probs_TE, plan, padding_T)
        loss = loss + second
    z, z_cache = _z(routing.log_z_T, padding_T, e, rules, training)

    out = layer.LayerOutput((y_TD + shared_TD).reshape(shape), loss, z, routing.probs_TE,
                            routing.logits_TE, gates_TK, plan)
    return out, LayerCache(shape, rules, plan, noise, x_TD, probs_TE, gates_TK, real_T, lost_T,
                           weight_T1, clean_RD, input_TK, router_cache, gates_cache, experts_cache,
                           combine_cache, shared_cache, chosen, balance_cache, second_cache,
                           z_cache)


def backward(d_y_TD: np.ndarray, cache: LayerCache, d_balance_loss: float, d_z_loss: float,
             d_probs_TE: np.ndarray | None,
             d_logits_TE: np.ndarray | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the parameters; `layer.backward` has checked."""
    rules, plan = cache.rules, cache.plan
    d_log_z_T = z_loss.backward(d_z_loss, cache.z)
    d_counted_TE = balance_loss.backward(d_balance_loss, cache.balance) * cache.balance_weight_T1
    d_scores_TE = d_counted_TE if cache.chosen is None else shares.backward(
        d_counted_TE, cache.chosen)
    if cache.second is not None:
        d_scores_TE += second_place.backward(d_balance_loss, cache.second)

    d_x_TD, grads = shared.backward(d_y_TD, cache.shared)
    d_gates_TK = np.zeros_like(cache.gates_TK)
    if rules.dropped != "zero":
        d_passed_TD, d_gates_TK = passing.backward(
            d_y_TD, cache.x_TD, cache.gates_TK, cache.lost_T, rules.dropped == "gated_identity")
        d_x_TD += d_passed_TD
    d_out_RD, d_output_TK = combine.backward(d_y_TD, cache.combine)
    d_rows_RD, expert_grads = experts.backward(d_out_RD, cache.experts)
    if cache.input_TK is not None:
        d_rows_RD, d_input_TK = weigh.backward(d_rows_RD, cache.rows_RD, cache.input_TK, plan)
        d_gates_TK += d_input_TK
    if rules.gate_at != "input":
        d_gates_TK += d_output_TK
    d_x_TD += dispatch.backward(d_rows_RD, plan)

    d_scores_TE += gates.backward(d_gates_TK, cache.probs_TE, cache.gates)
    if rules.padding_routing == "first_experts":
        d_scores_TE = d_scores_TE * cache.real_T[:, None]
    if d_probs_TE is not None:
        d_scores_TE = d_scores_TE + d_probs_TE
    if d_logits_TE is None:
        d_logits_TE = np.zeros_like(cache.probs_TE)
    d_routed_TD, router_grads = router.backward(
        Router(d_logits_TE, d_scores_TE, d_log_z_T), cache.router)
    d_x_TD += d_routed_TD
    if rules.jitter_reach == "experts" and cache.noise.jitter is not None:
        d_x_TD *= cache.noise.jitter
    if rules.select_bias:
        grads["select_bias"] = np.zeros_like(cache.router.params["select_bias"])
    return d_x_TD, router_grads | expert_grads | grads


def shapes(d_model: int, d_ff: int, config: SwitchConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter that the conventions add to the paper's.

    >>> config = SwitchConfig.like("hf_deepseek_v3", num_experts=16)
    >>> shapes(6, 8, config)["shared_w_in"]
    (6, 8)
    """
    rules, e, d, f = config.conventions, config.num_experts, d_model, d_ff
    wide = rules.shared_experts * f
    asked = {
        "w_noise": (rules.logit_noise == "learned", (d, e)),
        "select_bias": (rules.select_bias, (e,)),
        "w_gate": (rules.expert_gated, (e, d, f)),
        "b_in": (rules.expert_biases, (e, f)),
        "b_gate": (rules.expert_biases and rules.expert_gated, (e, f)),
        "b_out": (rules.expert_biases, (e, d)),
        "hidden_scale": (rules.expert_hidden_scale, (e, f)),
        "shared_w_in": (wide > 0, (d, wide)),
        "shared_w_gate": (wide > 0 and rules.expert_gated, (d, wide)),
        "shared_w_out": (wide > 0, (wide, d)),
        "shared_b_out": (rules.shared_bias, (d,)),
    }
    return {name: shape for name, (there, shape) in asked.items() if there}


def noise_for(noise: Noise | None, config: SwitchConfig, x_TD: np.ndarray, d_ff: int,
              rng: np.random.Generator | None, replayed: bool, training: bool) -> Noise:
    """Return the noise handed in, or what the conventions draw, in training and outside it."""
    rules = config.conventions
    if noise is not None:
        noises.check_noise(noise, config, x_TD, d_ff)
        drawn.checked(noise, config, x_TD, replayed)
        return noise
    always = rules.noise_when == "always" and (
        config.jitter or config.router_dropout or rules.logit_noise != "none")
    noisy = config.noisy if training else always or (rules.always_noisy and not replayed)
    if not noisy:
        return Noise()
    if rng is None:
        raise ValueError("rng must be a Generator (or noise= be given), since these conventions "
                         "draw random numbers here, got None")
    check.instance("rng", rng, np.random.Generator)
    dtype = x_TD.real.dtype
    if training or always:
        found = noises.draw_noise(rng, config, *x_TD.shape, d_ff, dtype)
        return found if training else found._replace(expert_dropout=None, gumbel=None)
    return drawn.draw(rng, Noise(), config, len(x_TD), dtype, training=False)


def _where(gates_TK: np.ndarray, rules: Conventions) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the weights of the experts' inputs, None for 1, and of their outputs."""
    if rules.gate_at == "input":
        return gates_TK, np.ones_like(gates_TK)
    if rules.gate_at == "both":
        return gates_TK, gates_TK
    straight = rules.dispatch_gradient == "straight_through"
    return (1 + (gates_TK - gates_TK.real)) if straight else None, gates_TK


def _counted(probs_TE: np.ndarray, plan: Plan, rules: Conventions) -> tuple[
        np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray] | None]:
    """Return the scores whose mean is P, and the cache of the shares if they are such."""
    if rules.balance_probs == "full":
        return probs_TE, None
    part_TE = np.ones(probs_TE.shape, bool)
    if rules.balance_probs == "chosen":
        part_TE = np.zeros(probs_TE.shape, bool)
        np.put_along_axis(part_TE, plan.expert, True, axis=1)
    return shares.forward(probs_TE, part_TE)


def _z(log_z_T: np.ndarray, padding_T: np.ndarray | None, num_experts: int, rules: Conventions,
       training: bool) -> tuple[np.ndarray, z_loss.ZCache]:
    """Return the z-loss and its cache; log E, where padding has it, has no gradient."""
    if rules.z_when == "never" or (rules.z_when == "training" and not training):
        return z_loss.forward(log_z_T, np.ones(len(log_z_T), bool))
    if padding_T is None or rules.z_padding != "zero_logits":
        return z_loss.forward(log_z_T, None if rules.z_padding == "include" else padding_T)
    held_T = np.where(padding_T, math.log(num_experts), log_z_T)
    loss, cache = z_loss.forward(held_T)
    return loss, cache._replace(log_z_T=log_z_T * ~padding_T)
