"""Experts of other libraries: biases, gated hidden units, other activations.

Source: Mixtral and DeepSeek-V3 (SwiGLU), ST-MoE in PyTorch (GEGLU, scaled), labml and fairseq
(biases), MegaBlocks and nanoMoE (GELU).

Forward, per expert:   a = rows W_in + b_in;  h = act(a), or act(u) ⊙ a, u = rows W_gate + b_gate;
                       h' = h ⊙ scale ⊙ keep / (1 - rate),  out = h' W_out + b_out
Backward, per expert:  d_W_out = h'ᵀ d_out,  d_b_out = Σ d_out,
                       d_h = d_out W_outᵀ ⊙ keep / (1 - rate),  d_scale = Σ d_h ⊙ h,
                       then d_h ⊙ scale goes on: d_a = d_h ⊙ act'(a), or, gated, d_h ⊙ act(u) and
                       d_u = d_h ⊙ a ⊙ act'(u);  d_W_in = rowsᵀ d_a,  d_b_in = Σ d_a, the same with
                       u for the gate;  d_rows = d_a W_inᵀ + d_u W_gateᵀ.
An expert to which no token came is skipped, as in the paper's experts. Empty rows of its buffer
meet a bias, but no token takes them and no gradient comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.conventions.table import Conventions
from switch_np.operations import activations, dropout
from switch_np.switch.experts import busy
from switch_np.switch.plan import Plan

NAMES = ("w_in", "b_in", "w_gate", "b_gate", "hidden_scale", "w_out", "b_out")


class ExpertsCache(NamedTuple):
    """Kept: rows in; both products before the activation; the hidden units before scale, and last.

    `gate_RF` is None where experts are not gated, `keep_RF` without dropout.
    """

    params: Mapping[str, np.ndarray]
    rows_RD: np.ndarray
    linear_RF: np.ndarray
    gate_RF: np.ndarray | None
    active_RF: np.ndarray
    hidden_RF: np.ndarray
    keep_RF: np.ndarray | None
    rate: float
    kind: str
    plan: Plan


def forward(params: Mapping[str, np.ndarray], rows_RD: np.ndarray, plan: Plan, rules: Conventions,
            keep_TKF: np.ndarray | None = None,
            rate: float = 0.0) -> tuple[np.ndarray, ExpertsCache]:
    """Return the experts' outputs (R, D).

    Parameters
    ----------
    params
        `w_in` (E, D, F) and `w_out` (E, F, D); `w_gate` (E, D, F) if experts are gated; `b_in`,
        `b_gate` (E, F) and `b_out` (E, D) for biases; `hidden_scale` (E, F).
    rows_RD, plan
        Tokens in the order of the plan's rows.
    rules
        Says the activation.
    keep_TKF, rate
        Mask and rate of expert dropout.

    Examples
    --------
    >>> from switch_np.switch.plan import fill
    >>> params = {"w_in": np.ones((1, 1, 1)), "w_gate": np.zeros((1, 1, 1)),
    ...           "b_gate": np.full((1, 1), 3.0), "w_out": np.ones((1, 1, 1))}
    >>> plan = fill(np.array([[0]]), 1, capacity=1)
    >>> forward(params, np.array([[2.0]]), plan, Conventions(expert_gated=True))[0].tolist()
    [[6.0]]
    """
    dtype = np.result_type(rows_RD, *(params[name] for name in NAMES if name in params))
    shape = (len(rows_RD), params["w_in"].shape[2])
    out_RD = np.zeros_like(rows_RD, dtype)
    linear_RF, active_RF, hidden_RF = (
        np.zeros_like(rows_RD, dtype, shape=shape) for _ in range(3))
    gate_RF = np.zeros_like(linear_RF) if "w_gate" in params else None
    keep_RF = None
    if keep_TKF is not None:
        keep_RF = np.zeros(shape, bool)
        keep_RF[plan.row] = keep_TKF[plan.token, plan.choice]
    for e, mine in busy(plan):
        linear = _affine(rows_RD[mine], params, "in", e)
        if gate_RF is not None:
            gate = _affine(rows_RD[mine], params, "gate", e)
            active_RF[mine] = linear * activations.forward(rules.expert_activation, gate)
            gate_RF[mine] = gate
        else:
            active_RF[mine] = activations.forward(rules.expert_activation, linear)
        linear_RF[mine] = linear
        hidden = active_RF[mine] * (params["hidden_scale"][e] if "hidden_scale" in params else 1)
        hidden_RF[mine] = dropout.forward(hidden, None if keep_RF is None else keep_RF[mine], rate)
        out_RD[mine] = _affine(hidden_RF[mine], params, "out", e)
    return out_RD, ExpertsCache(params, rows_RD, linear_RF, gate_RF, active_RF, hidden_RF, keep_RF,
                                rate, rules.expert_activation, plan)


def backward(d_out_RD: np.ndarray,
             cache: ExpertsCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_rows (R, D) and the gradients of the experts' parameters."""
    (params, rows_RD, linear_RF, gate_RF, active_RF, hidden_RF, keep_RF, rate, kind,
     plan) = cache
    d_rows_RD = np.zeros_like(d_out_RD)
    grads = {name: np.zeros_like(params[name]) for name in NAMES if name in params}
    for e, mine in busy(plan):
        grads["w_out"][e] = hidden_RF[mine].T @ d_out_RD[mine]
        d_hidden = d_out_RD[mine] @ params["w_out"][e].T
        d_hidden = dropout.backward(d_hidden, None if keep_RF is None else keep_RF[mine], rate)
        if "hidden_scale" in params:
            grads["hidden_scale"][e] = (d_hidden * active_RF[mine]).sum(axis=0)
            d_hidden = d_hidden * params["hidden_scale"][e]
        if gate_RF is None:
            d_linear = d_hidden * activations.slope(kind, linear_RF[mine])
        else:
            d_linear = d_hidden * activations.forward(kind, gate_RF[mine])
            d_gate = d_hidden * linear_RF[mine] * activations.slope(kind, gate_RF[mine])
            grads["w_gate"][e] = rows_RD[mine].T @ d_gate
            d_rows_RD[mine] = d_gate @ params["w_gate"][e].T
            if "b_gate" in params:
                grads["b_gate"][e] = d_gate.sum(axis=0)
        grads["w_in"][e] = rows_RD[mine].T @ d_linear
        d_rows_RD[mine] += d_linear @ params["w_in"][e].T
        if "b_in" in params:
            grads["b_in"][e] = d_linear.sum(axis=0)
        if "b_out" in params:
            grads["b_out"][e] = d_out_RD[mine].sum(axis=0)
    return d_rows_RD, grads


def _affine(x: np.ndarray, params: Mapping[str, np.ndarray], name: str, e: int) -> np.ndarray:
    """Return x W, plus b where there is one."""
    product = x @ params[f"w_{name}"][e]
    return product + params[f"b_{name}"][e] if f"b_{name}" in params else product
