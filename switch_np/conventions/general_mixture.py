"""The general mixture: gates at the experts' input, a shared expert, output for dropped tokens.

Source: Tutel (`is_postscore=False`: gates at the input), Keras' example (at both ends), ST-MoE in
PyTorch (straight through); for the rest see `dropped_tokens` and `shared_expert`.

Forward:   rows'[row of (t, k)] = w[t, k] · rows[row of (t, k)] goes to the experts, w = g, or
           straight through w = 1 + g - ḡ with ḡ = g held fixed, so that w is 1; otherwise the
           paper's mixture, plus the shared expert and what dropped tokens get.
Backward:  d_rows = w d_rows',   d_w[t, k] = ⟨d_rows'[row], rows[row]⟩ for a kept choice, else 0;
           otherwise `forward` read from the bottom up.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from switch_np.conventions import dropped_tokens, general_network, shared_expert
from switch_np.conventions.dropped_tokens import DroppedCache
from switch_np.conventions.shared_expert import SharedCache
from switch_np.conventions.table import Conventions
from switch_np.operations.rows import take
from switch_np.switch import combine, dispatch, experts
from switch_np.switch.combine import CombineCache
from switch_np.switch.experts import ExpertsCache
from switch_np.switch.plan import Plan


class Network(NamedTuple):
    """The general network with one activation, as `experts` takes a network."""

    NAMES: tuple[str, ...]
    forward: Any
    backward: Any


class GeneralMixtureCache(NamedTuple):
    """Saved for backward: the caches of the parts, and what is multiplied between them.

    `jitter_TD` and `input_TK` are None where nothing multiplies the experts' input.
    """

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
            padding_T: np.ndarray | None = None, jitter_TD: np.ndarray | None = None
            ) -> tuple[np.ndarray, GeneralMixtureCache]:
    """Return y (T, D); `jitter_TD` multiplies the experts' input too."""
    if jitter_TD is not None:
        x_TD = x_TD * jitter_TD
    input_TK, output_TK = _weights(gates_TK, conventions)
    clean_RD = rows_RD = dispatch.forward(x_TD, plan)
    if input_TK is not None:
        rows_RD = clean_RD * dispatch.by_row(input_TK, plan)[:, None]
    keep_RF = None if keep_TKF is None else dispatch.by_row(keep_TKF, plan)
    network = Network(general_network.NAMES, partial(
        general_network.forward, kind=conventions.expert_activation), general_network.backward)
    out_RD, experts_cache = experts.forward(params, rows_RD, plan, keep_RF, rate, network)
    y_TD, combine_cache = combine.forward(out_RD, output_TK, plan)
    served_T = np.ones(len(x_TD), bool)
    if padding_T is not None and conventions.padding_routing == "left_out":
        served_T = ~padding_T
    dropped = None
    if conventions.dropped != "zero":
        dropped_T = served_T & ~plan.kept.any(axis=1)
        own_TD, dropped = dropped_tokens.forward(x_TD, gates_TK, dropped_T,
                                                 conventions.dropped == "gated_identity")
        y_TD = y_TD + own_TD
    shared_TD, shared = shared_expert.forward(params, x_TD, served_T, conventions)
    return y_TD + shared_TD, GeneralMixtureCache(
        conventions, plan, jitter_TD, clean_RD, input_TK, experts_cache, combine_cache, dropped,
        shared)


def backward(d_y_TD: np.ndarray, cache: GeneralMixtureCache
             ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D), d_gates (T, K) and the gradients of the experts' parameters."""
    d_x_TD, grads = shared_expert.backward(d_y_TD, cache.shared)
    d_out_RD, d_gates_TK = combine.backward(d_y_TD, cache.combine)
    if cache.conventions.gate_at == "input":
        d_gates_TK = np.zeros_like(d_gates_TK)              # the output has weights of 1
    if cache.dropped is not None:
        d_own_TD, d_own_TK = dropped_tokens.backward(d_y_TD, cache.dropped)
        d_x_TD, d_gates_TK = d_x_TD + d_own_TD, d_gates_TK + d_own_TK
    d_rows_RD, expert_grads = experts.backward(d_out_RD, cache.experts)
    if cache.input_TK is not None:
        d_input_R = np.einsum("rd,rd->r", d_rows_RD, cache.rows_RD)
        d_rows_RD = d_rows_RD * dispatch.by_row(cache.input_TK, cache.plan)[:, None]
        d_gates_TK = d_gates_TK + take(d_input_R, cache.plan.row_of_choice.ravel()).reshape(
            d_gates_TK.shape)
    d_x_TD += dispatch.backward(d_rows_RD, cache.plan)
    if cache.jitter_TD is not None:
        d_x_TD *= cache.jitter_TD
    return d_x_TD, d_gates_TK, expert_grads | grads


def _weights(gates_TK: np.ndarray,
             conventions: Conventions) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the weights of the experts' inputs (None for 1) and of their outputs.

    A complex step does not reach the real part, so this is what a library holds fixed.
    """
    if conventions.gate_at == "input":
        return gates_TK, np.ones_like(gates_TK)
    if conventions.gate_at == "both":
        return gates_TK, gates_TK
    straight = conventions.dispatch_gradient == "straight_through"
    return (1 + (gates_TK - gates_TK.real)) if straight else None, gates_TK
