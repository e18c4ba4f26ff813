"""The mixture: dispatch, experts, combine; each token's expert outputs, weighted by its gates.

Source: equation 2 of the paper, y = Σ p_i E_i(x), here y = Σ_k g_k E_k(x) with the gates g; section
2.2 for the dropped tokens, whose y is 0. `backward` is `forward` read from the bottom up.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.switch import combine, dispatch, experts
from switch_np.switch.combine import CombineCache
from switch_np.switch.experts import ExpertsCache
from switch_np.switch.plan import Plan


class MixtureCache(NamedTuple):
    """Saved for backward: the plan, and the caches of the parts."""

    plan: Plan
    experts: ExpertsCache
    combine: CombineCache


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, gates_TK: np.ndarray, plan: Plan,
            keep_TKF: np.ndarray | None = None,
            rate: float = 0.0) -> tuple[np.ndarray, MixtureCache]:
    """Return y (T, D); `keep_TKF` (a mask per choice) and `rate` are for expert dropout."""
    rows_RD = dispatch.forward(x_TD, plan)
    keep_RF = None if keep_TKF is None else dispatch.by_row(keep_TKF, plan)
    out_RD, experts_cache = experts.forward(params, rows_RD, plan, keep_RF, rate)
    y_TD, combine_cache = combine.forward(out_RD, gates_TK, plan)
    return y_TD, MixtureCache(plan, experts_cache, combine_cache)


def backward(d_y_TD: np.ndarray, cache: MixtureCache
             ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D), d_gates (T, K) and the gradients of the experts' parameters."""
    d_out_RD, d_gates_TK = combine.backward(d_y_TD, cache.combine)
    d_rows_RD, grads = experts.backward(d_out_RD, cache.experts)
    del d_out_RD                           # free it before dispatch.backward allocates d_x
    return dispatch.backward(d_rows_RD, cache.plan), d_gates_TK, grads
