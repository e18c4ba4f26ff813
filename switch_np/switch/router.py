"""The router: which expert suits a token, and how well.

Source: equation 1 of the paper, p(x) = softmax(W_r x); jitter and input dropout from appendix C.

Forward:   r = x ⊙ s (s: the noise, 1 without),  logits = r W + b,  p = softmax(logits),
           log_z = log Σ exp logits
Backward:  d_logits = p ⊙ (d_p - Σ_e p_e d_p_e) + p d_log_z + whatever reaches the logits directly;
           d_W = rᵀ d_logits,  d_b = Σ_t d_logits,  d_x = s ⊙ (d_logits Wᵀ).
           s is drawn before, so it is data and has no gradient.
The noise reaches the router alone; the experts see the clean x. Others jitter the experts' input
as well (transformers 5.23) or the logits (Keras' example).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import softmax, threads


class Router(NamedTuple):
    """What the router says: logits and probabilities (T, E), and log Σ exp logits (T,).

    Or their gradients; those of logits and log_z are None where nothing arrives.
    """

    logits_TE: np.ndarray | None
    probs_TE: np.ndarray
    log_z_T: np.ndarray | None


class RouterCache(NamedTuple):
    """Kept: the noisy input, the noise, the probabilities, and the parameters by reference."""

    params: Mapping[str, np.ndarray]
    routed_TD: np.ndarray
    scale_TD: np.ndarray | None
    probs_TE: np.ndarray


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray,
            scale_TD: np.ndarray | None = None) -> tuple[Router, RouterCache]:
    """Score every expert for every token.

    Parameters
    ----------
    params
        `w_router` (D, E) and, if the router has a bias, `b_router` (E,).
    x_TD
        Tokens (T, D).
    scale_TD
        Noise: factors (T, D) of the router's input.

    Examples
    --------
    >>> out, cache = forward({"w_router": np.eye(2)}, np.array([[0.0, np.log(3.0)]]))
    >>> out.probs_TE.round(3).tolist()
    [[0.25, 0.75]]
    """
    routed_TD = x_TD if scale_TD is None else x_TD * scale_TD
    logits_TE = routed_TD @ params["w_router"]
    if "b_router" in params:
        logits_TE = logits_TE + params["b_router"]
    probs_TE, log_z_T = softmax.forward(logits_TE)
    cache = RouterCache(params, routed_TD, scale_TD, probs_TE)
    return Router(logits_TE, probs_TE, log_z_T), cache


def backward(d_out: Router, cache: RouterCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the parameters, from those of the three outputs."""
    params, routed_TD, scale_TD, probs_TE = cache
    d_logits_TE = softmax.backward(d_out.probs_TE, probs_TE)
    if d_out.log_z_T is not None:
        d_logits_TE += d_out.log_z_T[:, None] * probs_TE
    if d_out.logits_TE is not None:
        d_logits_TE += d_out.logits_TE
    d_w_router, d_x_TD = threads.each(lambda product: product(), [
        lambda: routed_TD.T @ d_logits_TE,
        lambda: d_logits_TE @ params["w_router"].T], size=routed_TD.size // 4)    # narrow products
    grads = {"w_router": d_w_router}
    if "b_router" in params:
        grads["b_router"] = d_logits_TE.sum(axis=0)
    if scale_TD is not None:
        d_x_TD *= scale_TD
    return d_x_TD, grads
