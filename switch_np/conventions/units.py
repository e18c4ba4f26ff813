"""The hidden units of other libraries: an activation and, with a gate, limits and an offset.

Source: SwiGLU and its kin as in `general_network`; GPT-OSS, MiniMax-M3 (α, limits at the input,
offset 1), DeepSeek-V4, GLM-5-Next, HY-V4 (limits at the input), Step-3.7 (limits at the output).

Forward:   act(z), for SiLU z σ(α z);   m = act(a) or, with a gate, min(act(u), c) ⊙ v with
           v = clip(a, ±L) + o and c = act(L), the limit at the input, or L, at the output.
           Activations rise where they are positive, so min(act(u), act(L)) = act(min(u, L)).
Backward:  d_a = d_m ⊙ act'(a) or, with a gate, d_m ⊙ min(act(u), c) where |a| ≤ L, else 0;
           d_u = d_m ⊙ v ⊙ act'(u) where act(u) ≤ c, else 0;   SiLU's act'(z) = silu'(α z).
α and L are rounded like the arrays they meet, since a kernel holds them in the same precision.
"""

from typing import NamedTuple

import numpy as np

from switch_np.conventions.table import Conventions
from switch_np.operations import activations

Held = tuple[np.ndarray, np.ndarray | None]        # values, and where a limit holds them, if any


class Units(NamedTuple):
    """What the hidden units compute; the fields are the knobs of `Conventions` with these names."""

    activation: str = "relu"
    silu_factor: float = 1.0
    limit: float | None = None
    limit_at: str = "input"
    offset: float = 0.0


def of(conventions: Conventions, shared: bool = False) -> Units:
    """Return the units of the experts, or of the shared expert, under these conventions.

    >>> of(Conventions(expert_gated=True, expert_limit=7.0)).limit
    7.0
    """
    has, limit = conventions, conventions.expert_limit
    if shared and has.shared_limit != "same":
        assert not isinstance(has.shared_limit, str)
        limit = has.shared_limit
    return Units(has.expert_activation, has.expert_silu_factor, limit, has.expert_limit_at,
                 has.expert_linear_offset)


def forward(units: Units, linear_TF: np.ndarray, gate_TF: np.ndarray | None) -> np.ndarray:
    """Return m (T, F) from a and u; u is None without a gate.

    >>> units = Units("silu", silu_factor=1.702, limit=2.0, offset=1.0)
    >>> forward(units, np.array([[1.0, -9.0]]), np.array([[0.5, 50.0]])).round(4).tolist()
    [[0.7008, -1.9357]]
    """
    if gate_TF is None:
        return _act(units, linear_TF)
    m_TF: np.ndarray = _gate(units, gate_TF)[0] * _linear(units, linear_TF)[0]
    return m_TF


def backward(d_m_TF: np.ndarray, units: Units, linear_TF: np.ndarray,
             gate_TF: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return d_a and d_u (T, F); d_u is None without a gate."""
    if gate_TF is None:
        return d_m_TF * _slope(units, linear_TF), None
    (active_TF, held_TF), (v_TF, held_linear_TF) = _gate(units, gate_TF), _linear(units, linear_TF)
    d_linear_TF, d_gate_TF = d_m_TF * active_TF, d_m_TF * v_TF * _slope(units, gate_TF)
    if held_TF is not None and held_linear_TF is not None:
        d_linear_TF, d_gate_TF = d_linear_TF * ~held_linear_TF, d_gate_TF * ~held_TF
    return d_linear_TF, d_gate_TF


def _gate(units: Units, gate_TF: np.ndarray) -> Held:
    active_TF = _act(units, gate_TF)
    if units.limit is None:
        return active_TF, None
    most = _constant(units.limit, gate_TF)
    if units.limit_at == "input":
        most = _act(units, most)
    held_TF = active_TF.real > most.real
    return np.where(held_TF, most, active_TF), held_TF


def _linear(units: Units, linear_TF: np.ndarray) -> Held:
    held_TF = None
    if units.limit is not None:
        most = _constant(units.limit, linear_TF)
        held_TF = abs(linear_TF.real) > most.real
        linear_TF = np.where(held_TF, np.sign(linear_TF.real) * most, linear_TF)
    return (linear_TF + units.offset if units.offset else linear_TF), held_TF


def _act(units: Units, x: np.ndarray) -> np.ndarray:
    if units.silu_factor == 1:
        return activations.forward(units.activation, x)
    y: np.ndarray = x * activations.sigmoid(x * _constant(units.silu_factor, x))
    return y


def _slope(units: Units, x: np.ndarray) -> np.ndarray:
    if units.silu_factor != 1:
        x = x * _constant(units.silu_factor, x)
    return activations.slope(units.activation, x)


def _constant(value: float, like: np.ndarray) -> np.ndarray:
    """Return a number as an array (1, 1) that is rounded like `like`, once for all its elements."""
    one: np.ndarray = np.ones_like(like[:1, :1])
    return one * value
