"""The router: a probability for each expert and token.

Source: equation 1 of the paper, p(x) = softmax(W_r x), where W_r is our Wᵀ; jitter and input
dropout, together the factor s, from appendix C. The noise reaches the router alone; the experts see
the clean x.

Forward:   r = x ⊙ s,   logits = r W + b,   p = softmax(logits),   log_z = log Σ exp logits
Backward:  d_logits = p ⊙ (d_p - Σ_e p_e d_p_e) + p d_log_z + what reaches the logits directly,
           d_W = rᵀ d_logits,   d_b = Σ_t d_logits,   d_x = s ⊙ (d_logits Wᵀ);   s is constant.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import softmax


class Routing(NamedTuple):
    """The router's output: logits and probabilities (T, E), and log Σ exp logits (T,)."""

    logits_TE: np.ndarray
    probs_TE: np.ndarray
    log_z_T: np.ndarray


class RouterCache(NamedTuple):
    """Saved for backward: the parameters, the noisy input, the factor s, the probabilities."""

    params: Mapping[str, np.ndarray]
    noisy_TD: np.ndarray
    scale_TD: np.ndarray | None
    probs_TE: np.ndarray


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray,
            scale_TD: np.ndarray | None = None) -> tuple[Routing, RouterCache]:
    """Score every expert for every token; `params`: `w_router` (D, E), optionally `b_router` (E,).

    >>> out, cache = forward({"w_router": np.eye(2)}, np.array([[0.0, np.log(3.0)]]))
    >>> out.probs_TE.round(3).tolist()
    [[0.25, 0.75]]
    """
    noisy_TD = x_TD if scale_TD is None else x_TD * scale_TD
    logits_TE = noisy_TD @ params["w_router"]
    if "b_router" in params:
        logits_TE = logits_TE + params["b_router"]
    probs_TE, log_z_T = softmax.forward(logits_TE)
    cache = RouterCache(params, noisy_TD, scale_TD, probs_TE)
    return Routing(logits_TE, probs_TE, log_z_T), cache


def backward(d_probs_TE: np.ndarray, d_log_z_T: np.ndarray, cache: RouterCache,
             d_logits_TE: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the parameters.

    `d_logits_TE` is what reaches the logits directly.
    """
    params, noisy_TD, scale_TD, probs_TE = cache
    d_all_TE = softmax.backward(d_probs_TE, probs_TE)
    d_all_TE += d_log_z_T[:, None] * probs_TE
    if d_logits_TE is not None:
        d_all_TE += d_logits_TE
    grads = {"w_router": noisy_TD.T @ d_all_TE}
    if "b_router" in params:
        grads["b_router"] = d_all_TE.sum(axis=0)
    d_x_TD = d_all_TE @ params["w_router"].T
    return d_x_TD if scale_TD is None else d_x_TD * scale_TD, grads
