"""Gates of other libraries: renormalised, scaled, or with a value of 1.

Source: GShard's top-2 gates (divided by their sum), DeepSeek-V3 (times 2.5), MegaBlocks (p-norm),
labml (value 1).

Forward:   g_k = c p_k / s,  s = (Σ_j w_j p_j^q)^(1/q), with ε added or as a lower bound;  w = 1
           (pre) or kept (post);  s = 1 (none). Unit gates: g / ḡ, ḡ equal to g but held fixed.
Backward:  ∂s/∂p_k = w_k p_k^(q-1) s^(1-q), 0 where s = ε is the bound;  with r = p / s,
           d_p_k = c (d_g_k - ∂s/∂p_k Σ_j d_g_j r_j) / s;  unit gates: the same on d_g / ḡ.
A single choice divided by itself has the gate 1: the two terms cancel to the last bit, and the main
loss does not reach the router.
"""

from typing import NamedTuple

import numpy as np

from switch_np.conventions.table import Conventions
from switch_np.switch import gates
from switch_np.switch.plan import Plan


class RenormalisedCache(NamedTuple):
    """Saved for backward: the paper's gates' cache, r, s, ∂s/∂p, and ḡ for unit gates."""

    chosen: gates.GatesCache
    ratio_TK: np.ndarray
    sum_T1: np.ndarray
    slope_TK: np.ndarray
    held_TK: np.ndarray | None
    conventions: Conventions


def forward(probs_TE: np.ndarray, plan: Plan,
            conventions: Conventions) -> tuple[np.ndarray, RenormalisedCache]:
    """Return the gates (T, K).

    >>> from switch_np.switch.plan import fill
    >>> plan = fill(np.array([[1, 0]]), 3, capacity=1)
    >>> forward(np.array([[0.1, 0.4, 0.5]]), plan, Conventions(renorm="pre"))[0].tolist()
    [[0.8, 0.2]]
    """
    chosen_TK, chosen = gates.forward(probs_TE, plan)
    sum_T1, slope_TK = divisor(chosen_TK, plan.kept, conventions)
    ratio_TK = chosen_TK / sum_T1
    gates_TK = ratio_TK * conventions.gate_scale
    held_TK = None
    if conventions.gate_gradient == "unit":
        held_TK = np.where(gates_TK == 0, 1, gates_TK.real)
        gates_TK = gates_TK / held_TK
    return gates_TK, RenormalisedCache(chosen, ratio_TK, sum_T1, slope_TK, held_TK, conventions)


def backward(d_gates_TK: np.ndarray, cache: RenormalisedCache) -> np.ndarray:
    """Return d_probs (T, E)."""
    chosen, ratio_TK, sum_T1, slope_TK, held_TK, conventions = cache
    if held_TK is not None:
        d_gates_TK = d_gates_TK / held_TK
    along_T1 = (d_gates_TK * ratio_TK).sum(axis=1, keepdims=True)
    d_chosen_TK = conventions.gate_scale * (d_gates_TK - slope_TK * along_T1) / sum_T1
    return gates.backward(d_chosen_TK, chosen)


def divisor(chosen_TK: np.ndarray, kept_TK: np.ndarray,
            conventions: Conventions) -> tuple[np.ndarray, np.ndarray]:
    """Return s (T, 1) and ∂s/∂p (T, K).

    >>> divisor(np.array([[0.3, 0.2]]), np.array([[True, False]]), Conventions(renorm="post"))
    (array([[0.3]]), array([[1., 0.]]))
    """
    single = chosen_TK.shape[1] == 1 and not conventions.renorm_single
    if conventions.renorm == "none" or single:
        return np.ones_like(chosen_TK[:, :1]), np.zeros_like(chosen_TK)
    counts_TK = kept_TK if conventions.renorm == "post" else np.ones_like(kept_TK)
    q = conventions.renorm_power
    sum_T1 = (counts_TK * chosen_TK ** q).sum(axis=1, keepdims=True) ** (1 / q)
    slope_TK = counts_TK * (chosen_TK / np.where(sum_T1 == 0, 1, sum_T1)) ** (q - 1)
    eps = conventions.renorm_eps
    eps = float(np.finfo(chosen_TK.real.dtype).eps) if eps == "finfo" else eps
    if conventions.renorm_eps_mode == "add":
        sum_T1 = sum_T1 + eps
    else:
        low_T1 = sum_T1.real < eps
        sum_T1, slope_TK = np.where(low_T1, eps, sum_T1), slope_TK * ~low_T1
    return np.where(sum_T1 == 0, 1, sum_T1), slope_TK
