"""The network of other libraries: any activation; an optional gate, biases and learned scale.

Source: Shazeer, "GLU variants improve transformer" (2020), T5 1.1 (gated, GELU's tanh form);
Mixtral and DeepSeek-V3 (SwiGLU), ST-MoE in PyTorch (GEGLU, scaled), labml and fairseq (biases),
MegaBlocks and nanoMoE (GELU). Experts, the shared expert and the dense block use it.

Forward:   a = x W_in + b_in,   u = x W_gate + b_gate,   m as `units` has it: act(a), or
           act(u) ⊙ a with a gate;   h = m ⊙ scale ⊙ keep / (1 - rate),   y = h W_out + b_out
Backward:  d_h = d_y W_outᵀ ⊙ keep / (1 - rate),   d_scale = Σ d_h ⊙ m,   d_m = d_h ⊙ scale;
           d_a and d_u by `units`; for each z = x W + b:  d_W = xᵀ d_z,   d_b = Σ d_z,
           d_x = d_z Wᵀ.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.conventions import units as hidden_units
from switch_np.conventions.units import Units
from switch_np.operations import dropout
from switch_np.switch.feed_forward import NO_ARRAYS

NAMES = ("w_in", "b_in", "w_gate", "b_gate", "hidden_scale", "w_out", "b_out")


class NetworkCache(NamedTuple):
    """Saved for backward: input, a, u (None without a gate), m, h, and dropout's mask and rate."""

    params: Mapping[str, np.ndarray]
    units: Units
    x_TD: np.ndarray
    linear_TF: np.ndarray
    gate_TF: np.ndarray | None
    active_TF: np.ndarray
    hidden_TF: np.ndarray
    keep_TF: np.ndarray | None
    rate: float


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, keep_TF: np.ndarray | None = None,
            rate: float = 0.0, units: Units = Units(),
            out: np.ndarray | None = None) -> tuple[np.ndarray, NetworkCache]:
    """Return y (T, D), also written to `out`; the names in `params` say what the network has.

    >>> params = {name: np.ones((1, 1)) for name in ("w_gate", "w_in", "w_out")}
    >>> forward(params, np.array([[2.0], [-3.0]]))[0].tolist()
    [[4.0], [0.0]]
    """
    linear_TF = _affine(x_TD, params, "in")
    gate_TF = _affine(x_TD, params, "gate") if "w_gate" in params else None
    active_TF = hidden_units.forward(units, linear_TF, gate_TF)
    scaled_TF = active_TF * params["hidden_scale"] if "hidden_scale" in params else active_TF
    hidden_TF = dropout.forward(scaled_TF, keep_TF, rate)
    y_TD = _affine(hidden_TF, params, "out")
    if out is not None:
        out[...] = y_TD
    return y_TD, NetworkCache(params, units, x_TD, linear_TF, gate_TF, active_TF, hidden_TF,
                              keep_TF, rate)


def backward(d_y_TD: np.ndarray, cache: NetworkCache,
             into: Mapping[str, np.ndarray] = NO_ARRAYS
             ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients, also written `into` the arrays given."""
    params, units, x_TD, linear_TF, gate_TF, active_TF, hidden_TF, keep_TF, rate = cache
    d_hidden_TF, grads = _affine_backward(d_y_TD, hidden_TF, params, "out")
    d_hidden_TF = dropout.backward(d_hidden_TF, keep_TF, rate)
    if "hidden_scale" in params:
        grads["hidden_scale"] = (d_hidden_TF * active_TF).sum(axis=0)
        d_hidden_TF = d_hidden_TF * params["hidden_scale"]
    d_linear_TF, d_gate_TF = hidden_units.backward(d_hidden_TF, units, linear_TF, gate_TF)
    d_x_TD, more = _affine_backward(d_linear_TF, x_TD, params, "in")
    grads |= more
    if d_gate_TF is not None:
        d_gated_TD, more = _affine_backward(d_gate_TF, x_TD, params, "gate")
        d_x_TD = d_x_TD + d_gated_TD
        grads |= more
    for name, target in into.items():
        target[...] = d_x_TD if name == "x" else grads[name]
    return d_x_TD, grads


def _affine(x: np.ndarray, params: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    product: np.ndarray = x @ params[f"w_{name}"]
    return product + params[f"b_{name}"] if f"b_{name}" in params else product


def _affine_backward(d_z: np.ndarray, x: np.ndarray, params: Mapping[str, np.ndarray],
                     name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x and the gradients of W and b."""
    grads = {f"w_{name}": x.T @ d_z}
    if f"b_{name}" in params:
        grads[f"b_{name}"] = d_z.sum(axis=0)
    return d_z @ params[f"w_{name}"].T, grads
