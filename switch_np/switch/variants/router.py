"""The router of other libraries: noise on the logits, and scores that are no softmax.

Source: DeepSeek-V3 (sigmoid of each logit alone); Megatron (the same, or √softplus); Tutel and
ST-MoE in PyTorch (noise added to the logits); nanoMoE (noise times softplus(x W_n), learned).

Forward:   r = x ⊙ s,  logits = r W + b + n ⊙ v with v = 1 or softplus(r W_n),
           p = softmax(logits), σ(logits) or √softplus(logits);  log_z = log Σ exp logits
Backward:  d_logits = d_p ⊙ p' + softmax(logits) d_log_z + whatever reaches them directly, with
           p' = σ (1 - σ), or σ / (2p) for the root, and the softmax's own rule;
           d_W = rᵀ d_logits,  d_b = Σ_t d_logits,  d_W_n = rᵀ (d_logits ⊙ n ⊙ σ(r W_n)),
           d_x = s ⊙ (d_logits Wᵀ + (d_logits ⊙ n ⊙ σ(r W_n)) W_nᵀ). n is drawn before: data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import softmax
from switch_np.operations.activations import sigmoid, softplus
from switch_np.switch.router import Router


class RouterCache(NamedTuple):
    """Kept: the noisy input and logits, the scores, the softmax, the noise and the parameters."""

    params: Mapping[str, np.ndarray]
    kind: str
    routed_TD: np.ndarray
    scale_TD: np.ndarray | None
    noise_TE: np.ndarray | None
    logits_TE: np.ndarray
    probs_TE: np.ndarray
    softmax_TE: np.ndarray


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, kind: str,
            scale_TD: np.ndarray | None = None,
            noise_TE: np.ndarray | None = None) -> tuple[Router, RouterCache]:
    """Score every expert for every token.

    Parameters
    ----------
    params
        `w_router` (D, E); `b_router` (E,) for a bias; `w_noise` (D, E) for learned noise.
    x_TD
        Tokens (T, D).
    kind
        "softmax", "sigmoid" or "sqrtsoftplus".
    scale_TD, noise_TE
        Factors (T, D) of the input, and what is added to the logits (T, E).

    Examples
    --------
    >>> forward({"w_router": np.eye(2)}, np.zeros((1, 2)), "sigmoid")[0].probs_TE.tolist()
    [[0.5, 0.5]]
    """
    routed_TD = x_TD if scale_TD is None else x_TD * scale_TD
    logits_TE = routed_TD @ params["w_router"]
    if "b_router" in params:
        logits_TE = logits_TE + params["b_router"]
    if noise_TE is not None:
        spread_TE = softplus(routed_TD @ params["w_noise"]) if "w_noise" in params else 1
        logits_TE = logits_TE + noise_TE * spread_TE
    softmax_TE, log_z_T = softmax.forward(logits_TE)
    probs_TE = softmax_TE
    if kind == "sigmoid":
        probs_TE = sigmoid(logits_TE)
    elif kind == "sqrtsoftplus":
        probs_TE = np.sqrt(softplus(logits_TE))
    cache = RouterCache(params, kind, routed_TD, scale_TD, noise_TE, logits_TE, probs_TE,
                        softmax_TE)
    return Router(logits_TE, probs_TE, log_z_T), cache


def backward(d_out: Router, cache: RouterCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the gradients of the parameters, from those of the three outputs."""
    params, kind, routed_TD, scale_TD, noise_TE, logits_TE, probs_TE, softmax_TE = cache
    if kind == "softmax":
        d_logits_TE = softmax.backward(d_out.probs_TE, probs_TE)
    elif kind == "sigmoid":
        d_logits_TE = d_out.probs_TE * probs_TE * (1 - probs_TE)
    else:
        d_logits_TE = d_out.probs_TE * sigmoid(logits_TE) / (2 * probs_TE)
    if d_out.log_z_T is not None:
        d_logits_TE += d_out.log_z_T[:, None] * softmax_TE
    if d_out.logits_TE is not None:
        d_logits_TE += d_out.logits_TE
    grads = {"w_router": routed_TD.T @ d_logits_TE}
    if "b_router" in params:
        grads["b_router"] = d_logits_TE.sum(axis=0)
    d_x_TD = d_logits_TE @ params["w_router"].T
    if "w_noise" in params:
        if noise_TE is None:
            grads["w_noise"] = np.zeros_like(params["w_noise"])
        else:
            d_spread_TE = d_logits_TE * noise_TE * sigmoid(routed_TD @ params["w_noise"])
            grads["w_noise"] = routed_TD.T @ d_spread_TE
            d_x_TD += d_spread_TE @ params["w_noise"].T
    if scale_TD is not None:
        d_x_TD *= scale_TD
    return d_x_TD, grads
