"""The dense feed-forward network of T5 1.1 and others: gated, or with another activation.

Source: Shazeer, "GLU variants improve transformer" (2020); T5 1.1 has GELU's tanh form, gated.

Forward:   u = x W_gate,  l = x W_in,  h = act(u) ⊙ l,  or h = act(l) without a gate;
           h' = h ⊙ keep / (1 - rate),  y = h' W_out
Backward:  d_W_out = h'ᵀ d_y,  d_h = d_y W_outᵀ ⊙ keep / (1 - rate);  d_l = d_h ⊙ act(u) and
           d_u = d_h ⊙ l ⊙ act'(u),  or d_l = d_h ⊙ act'(l);  d_W_in = xᵀ d_l,  d_W_gate = xᵀ d_u,
           d_x = d_l W_inᵀ + d_u W_gateᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import activations, dropout


class GatedCache(NamedTuple):
    """Kept: the input, both products before the activation, and the hidden units after dropout."""

    params: Mapping[str, np.ndarray]
    kind: str
    x_TD: np.ndarray
    linear_TF: np.ndarray
    gate_TF: np.ndarray | None
    hidden_TF: np.ndarray
    keep_TF: np.ndarray | None
    rate: float


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, kind: str,
            keep_TF: np.ndarray | None = None,
            rate: float = 0.0) -> tuple[np.ndarray, GatedCache]:
    """Return y (T, D).

    Parameters
    ----------
    params
        `w_in` (D, F), `w_out` (F, D) and, if gated, `w_gate` (D, F).
    x_TD
        Tokens.
    kind
        The activation: "relu", "gelu", "gelu_tanh" or "silu".
    keep_TF, rate
        Mask and rate of dropout on the hidden units.

    Examples
    --------
    >>> params = {name: np.ones((1, 1)) for name in ("w_gate", "w_in", "w_out")}
    >>> forward(params, np.array([[2.0], [-3.0]]), "relu")[0].tolist()
    [[4.0], [0.0]]
    """
    linear_TF, gate_TF = x_TD @ params["w_in"], None
    if "w_gate" in params:
        gate_TF = x_TD @ params["w_gate"]
        hidden_TF = activations.forward(kind, gate_TF) * linear_TF
    else:
        hidden_TF = activations.forward(kind, linear_TF)
    hidden_TF = dropout.forward(hidden_TF, keep_TF, rate)
    cache = GatedCache(params, kind, x_TD, linear_TF, gate_TF, hidden_TF, keep_TF, rate)
    return hidden_TF @ params["w_out"], cache


def backward(d_y_TD: np.ndarray, cache: GatedCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the parameters."""
    params, kind, x_TD, linear_TF, gate_TF, hidden_TF, keep_TF, rate = cache
    grads = {"w_out": hidden_TF.T @ d_y_TD}
    d_hidden_TF = dropout.backward(d_y_TD @ params["w_out"].T, keep_TF, rate)
    if gate_TF is None:
        d_linear_TF = d_hidden_TF * activations.slope(kind, linear_TF)
        d_x_TD = d_linear_TF @ params["w_in"].T
    else:
        d_linear_TF = d_hidden_TF * activations.forward(kind, gate_TF)
        d_gate_TF = d_hidden_TF * linear_TF * activations.slope(kind, gate_TF)
        grads["w_gate"] = x_TD.T @ d_gate_TF
        d_x_TD = d_linear_TF @ params["w_in"].T + d_gate_TF @ params["w_gate"].T
    return d_x_TD, {"w_in": x_TD.T @ d_linear_TF} | grads
