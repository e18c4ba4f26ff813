"""The mixture of other libraries: gates at the experts' input, dropped tokens, a shared expert.

Source: Tutel (`is_postscore=False`) and Keras' example (gates at the input), ST-MoE in PyTorch (a
dispatch with the value of a copy and the gradient of a product); transformers 4 and labml (a
dropped token gets itself times its gate); DeepSeek-V3 (one expert as wide as its shared experts
together), Qwen2-MoE (with a gate of its own), Cohere2-MoE (averaged), MegaBlocks (one bias for all
tokens). These steps are added to the paper's mixture.

Forward:   gated rows: rows'[row of (t, k)] = w[t, k] rows[row of (t, k)];  w = g, or, straight
           through, 1 + g - ḡ with ḡ equal to g but held fixed, so that w is 1
           dropped token t: y[t] += v[t] x[t];  v = 1, or Σ_k g[t, k]
           every token served: y += s FFN_shared(x) + b_shared;  s = 1, or σ(x w_s)
           averaged: y / 2
Backward:  d_rows = w d_rows',   d_w[t, k] = ⟨d_rows'[row], rows[row]⟩ for a kept choice, else 0;
           d_x[t] += v[t] d_y[t],   d_g[t, k] += ⟨d_y[t], x[t]⟩ if v depends on g;
           over the tokens served: d_b_shared = Σ d_y,   d_FFN = s d_y,   d_w_s = xᵀ d_z and
           d_x += d_z w_sᵀ with d_z = s (1 - s) ⟨d_y, FFN_shared(x)⟩;   averaged: all for d_y / 2.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from switch_np.conventions import general_network, units
from switch_np.conventions.general_network import NetworkCache
from switch_np.conventions.table import Conventions
from switch_np.operations.activations import sigmoid
from switch_np.operations.rows import take
from switch_np.switch import combine, dispatch, experts
from switch_np.switch.combine import CombineCache
from switch_np.switch.experts import ExpertsCache
from switch_np.switch.plan import Plan

SHARED = ("w_in", "w_gate", "w_out")      # what the shared expert has, as shared_w_in and so on


class Network(NamedTuple):
    """The general network with one activation, in the form that `experts` takes."""

    NAMES: tuple[str, ...]
    forward: Any
    backward: Any


def network(conventions: Conventions) -> Network:
    """Return the network of these conventions' experts."""
    return Network(general_network.NAMES, partial(
        general_network.forward, units=units.of(conventions)), general_network.backward)


class DroppedCache(NamedTuple):
    """Saved for backward: tokens, their weights, which are dropped, whether gates weight them."""

    x_TD: np.ndarray
    weight_T1: np.ndarray
    dropped_T1: np.ndarray
    gated: bool


class SharedCache(NamedTuple):
    """Saved for backward: the network's cache, input, output, gate and its weight, if it has them.

    Also whether there is a bias, and which tokens are served.
    """

    network: NetworkCache | None
    x_TD: np.ndarray
    out_TD: np.ndarray
    gate_T1: np.ndarray | None
    w_D1: np.ndarray | None
    biased: bool
    served_T: np.ndarray


class MixtureCache(NamedTuple):
    """Saved for backward: the steps' caches, rows before any gate, and factors or None for 1."""

    conventions: Conventions
    plan: Plan
    jitter_TD: np.ndarray | None
    rows_RD: np.ndarray
    input_TK: np.ndarray | None
    experts: ExpertsCache
    combine: CombineCache
    dropped: DroppedCache | None
    shared: SharedCache


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, gates_TK: np.ndarray, plan: Plan,
            keep_TKF: np.ndarray | None = None, rate: float = 0.0, *, conventions: Conventions,
            padding_T: np.ndarray | None = None,
            jitter_TD: np.ndarray | None = None) -> tuple[np.ndarray, MixtureCache]:
    """Return y (T, D); `jitter_TD` also multiplies the experts' input."""
    if jitter_TD is not None:
        x_TD = x_TD * jitter_TD
    input_TK, output_TK = _gates(gates_TK, conventions)
    rows_RD = gated_RD = dispatch.forward(x_TD, plan)
    if input_TK is not None:
        gated_RD = rows_RD * dispatch.by_row(input_TK, plan)[:, None]
    keep_RF = None if keep_TKF is None else dispatch.by_row(keep_TKF, plan)
    out_RD, experts_cache = experts.forward(params, gated_RD, plan, keep_RF, rate,
                                            network(conventions))
    y_TD, combine_cache = combine.forward(out_RD, output_TK, plan)
    served_T = np.ones(len(x_TD), bool)
    if padding_T is not None and conventions.padding_routing == "left_out":
        served_T = ~padding_T
    more_TD, shared = shared_forward(params, x_TD, served_T, conventions)
    dropped = None
    if conventions.dropped != "zero":
        dropped_T = served_T & ~plan.kept.any(axis=1)
        own_TD, dropped = dropped_forward(x_TD, gates_TK, dropped_T,
                                          conventions.dropped == "gated_identity")
        more_TD = own_TD + more_TD
    if conventions.shared_average:
        more_TD = more_TD * 0.5
    return y_TD + more_TD, MixtureCache(conventions, plan, jitter_TD, rows_RD, input_TK,
                                        experts_cache, combine_cache, dropped, shared)


def backward(d_y_TD: np.ndarray, cache: MixtureCache
             ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D), d_gates (T, K) and the gradients of the experts' parameters."""
    d_out_RD, d_gates_TK = combine.backward(d_y_TD, cache.combine)
    if cache.conventions.shared_average:
        d_y_TD, d_gates_TK = d_y_TD * 0.5, d_gates_TK * 0.5
    d_x_TD, grads = shared_backward(d_y_TD, cache.shared)
    if cache.conventions.gate_at == "input":
        d_gates_TK = np.zeros_like(d_gates_TK)              # the output was multiplied by ones
    if cache.dropped is not None:
        d_own_TD, d_weight_T1 = dropped_backward(d_y_TD, cache.dropped)
        d_x_TD, d_gates_TK = d_x_TD + d_own_TD, d_gates_TK + d_weight_T1
    d_rows_RD, expert_grads = experts.backward(d_out_RD, cache.experts)
    if cache.input_TK is not None:
        d_input_R = np.einsum("rd,rd->r", d_rows_RD, cache.rows_RD)
        d_input_TK = take(d_input_R, cache.plan.row_of_choice.ravel()).reshape(d_gates_TK.shape)
        d_gates_TK = d_gates_TK + d_input_TK
        d_rows_RD = d_rows_RD * dispatch.by_row(cache.input_TK, cache.plan)[:, None]
    d_x_TD += dispatch.backward(d_rows_RD, cache.plan)
    if cache.jitter_TD is not None:
        d_x_TD *= cache.jitter_TD
    return d_x_TD, d_gates_TK, expert_grads | grads


def _gates(gates_TK: np.ndarray,
           conventions: Conventions) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the weights of the experts' inputs, None for 1, and of their outputs.

    A factor that a library holds fixed is a real part, so a complex step does not reach it.
    """
    input_TK, output_TK = None, gates_TK
    if conventions.gate_at != "output":
        input_TK = gates_TK
    elif conventions.dispatch_gradient == "straight_through":
        input_TK = 1 + (gates_TK - gates_TK.real)
    if conventions.gate_at == "input":
        output_TK = np.ones_like(gates_TK)
    return input_TK, output_TK * 0.5 if conventions.shared_average else output_TK


def dropped_forward(x_TD: np.ndarray, gates_TK: np.ndarray, dropped_T: np.ndarray,
                    gated: bool) -> tuple[np.ndarray, DroppedCache]:
    """Return what dropped tokens add to y (T, D)."""
    weight_T1 = dropped_T1 = dropped_T[:, None]        # bool: integers would promote float32
    if gated:
        weight_T1 = gates_TK.sum(axis=1, keepdims=True) * dropped_T1
    return x_TD * weight_T1, DroppedCache(x_TD, weight_T1, dropped_T1, gated)


def dropped_backward(d_y_TD: np.ndarray, cache: DroppedCache) -> tuple[np.ndarray, np.ndarray]:
    """Return d_x (T, D), and the gradient (T, 1) of each of a token's gates."""
    d_weight_T1 = (d_y_TD * cache.x_TD).sum(axis=1, keepdims=True)
    return d_y_TD * cache.weight_T1, d_weight_T1 * cache.dropped_T1 * cache.gated


def shared_forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, served_T: np.ndarray,
                   conventions: Conventions) -> tuple[np.ndarray, SharedCache]:
    """Return what the shared expert and the shared bias add to y (T, D)."""
    y_TD, network, gate_T1, w_D1 = np.zeros_like(x_TD), None, None, None
    if conventions.shared_experts:
        own = {name: params[f"shared_{name}"] for name in SHARED if f"shared_{name}" in params}
        y_TD, network = general_network.forward(own, x_TD, units=units.of(conventions, shared=True))
    out_TD = y_TD
    if conventions.shared_gate:
        w_D1 = params["shared_w_router"]
        gate_T1 = sigmoid(x_TD @ w_D1)
        y_TD = gate_T1 * y_TD
    if conventions.shared_bias:
        y_TD = y_TD + params["shared_b_out"]
    return y_TD * served_T[:, None], SharedCache(network, x_TD, out_TD, gate_T1, w_D1,
                                                 conventions.shared_bias, served_T)


def shared_backward(d_y_TD: np.ndarray, cache: SharedCache
                    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the shared parameters."""
    d_y_TD = d_y_TD * cache.served_T[:, None]
    d_x_TD, d_out_TD, grads = np.zeros_like(d_y_TD), d_y_TD, {}
    if cache.biased:
        grads["shared_b_out"] = d_y_TD.sum(axis=0)
    if cache.gate_T1 is not None and cache.w_D1 is not None:
        d_gate_T1 = (d_y_TD * cache.out_TD).sum(axis=1, keepdims=True)
        d_z_T1 = d_gate_T1 * cache.gate_T1 * (1 - cache.gate_T1)
        grads["shared_w_router"] = cache.x_TD.T @ d_z_T1
        d_x_TD, d_out_TD = d_z_T1 @ cache.w_D1.T, d_y_TD * cache.gate_T1
    if cache.network is not None:
        d_rows_TD, found = general_network.backward(d_out_TD, cache.network)
        d_x_TD = d_x_TD + d_rows_TD
        grads |= {f"shared_{name}": value for name, value in found.items()}
    return d_x_TD, grads
