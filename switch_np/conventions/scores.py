"""The router of other libraries: noise on the logits, and scores other than a softmax.

Source: DeepSeek-V3 (sigmoid of each logit); Megatron (the same, or √softplus); Tutel and
ST-MoE in PyTorch (noise added to the logits); nanoMoE (noise times softplus(x W_n), learned).

Forward:   r = x ⊙ s,   logits = r W + b + n ⊙ v with v = 1 or softplus(r W_n),
           p = softmax(logits), σ(logits) or √softplus(logits);   log_z = log Σ exp logits
Backward:  d_logits = d_p ⊙ p' + softmax(logits) d_log_z, with p' = σ (1 - σ), or σ / (2p) for the
           root (`softmax.backward` for a softmax);   d_W = rᵀ d_logits,   d_b = Σ_t d_logits;
           d_v = d_logits ⊙ n ⊙ σ(r W_n),   d_W_n = rᵀ d_v,   d_x = s ⊙ (d_logits Wᵀ + d_v W_nᵀ).
           The noise n is data. A bias that is used for selection alone has no gradient.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import softmax
from switch_np.operations.activations import sigmoid, softplus
from switch_np.switch.router import Routing


class ScoresCache(NamedTuple):
    """Saved for backward: parameters, noisy input, noise, logits, scores and softmax."""

    params: Mapping[str, np.ndarray]
    kind: str
    noisy_TD: np.ndarray
    scale_TD: np.ndarray | None
    noise_TE: np.ndarray | None
    logits_TE: np.ndarray
    probs_TE: np.ndarray
    softmax_TE: np.ndarray


def forward(params: Mapping[str, np.ndarray], x_TD: np.ndarray, scale_TD: np.ndarray | None = None,
            kind: str = "softmax",
            noise_TE: np.ndarray | None = None) -> tuple[Routing, ScoresCache]:
    """Score every expert for every token; `scale_TD` multiplies x, `noise_TE` is added to logits.

    >>> forward({"w_router": np.eye(2)}, np.zeros((1, 2)), kind="sigmoid")[0].probs_TE.tolist()
    [[0.5, 0.5]]
    """
    noisy_TD = x_TD if scale_TD is None else x_TD * scale_TD
    logits_TE = noisy_TD @ params["w_router"]
    if "b_router" in params:
        logits_TE = logits_TE + params["b_router"]
    if noise_TE is not None:
        spread_TE = softplus(noisy_TD @ params["w_noise"]) if "w_noise" in params else 1
        logits_TE = logits_TE + noise_TE * spread_TE
    softmax_TE, log_z_T = softmax.forward(logits_TE)
    probs_TE = softmax_TE
    if kind == "sigmoid":
        probs_TE = sigmoid(logits_TE)
    elif kind == "sqrtsoftplus":
        probs_TE = np.sqrt(softplus(logits_TE))
    return Routing(logits_TE, probs_TE, log_z_T), ScoresCache(
        params, kind, noisy_TD, scale_TD, noise_TE, logits_TE, probs_TE, softmax_TE)


def backward(d_probs_TE: np.ndarray, d_log_z_T: np.ndarray, cache: ScoresCache,
             d_logits_TE: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (T, D) and the parameters' gradients; `d_logits_TE` is added at the logits."""
    params, kind, noisy_TD, scale_TD, noise_TE, logits_TE, probs_TE, softmax_TE = cache
    if kind == "sigmoid":
        d_all_TE = d_probs_TE * probs_TE * (1 - probs_TE)
    elif kind == "sqrtsoftplus":
        root_TE = np.where(probs_TE == 0, 1, probs_TE)       # underflows with its slope
        d_all_TE = d_probs_TE * sigmoid(logits_TE) / (2 * root_TE)
    else:
        d_all_TE = softmax.backward(d_probs_TE, probs_TE)
    d_all_TE += d_log_z_T[:, None] * softmax_TE
    if d_logits_TE is not None:
        d_all_TE += d_logits_TE
    grads = {"w_router": noisy_TD.T @ d_all_TE}
    if "b_router" in params:
        grads["b_router"] = d_all_TE.sum(axis=0)
    d_x_TD = d_all_TE @ params["w_router"].T
    if "w_noise" in params and noise_TE is not None:
        d_spread_TE = d_all_TE * noise_TE * sigmoid(noisy_TD @ params["w_noise"])
        grads["w_noise"] = noisy_TD.T @ d_spread_TE
        d_x_TD += d_spread_TE @ params["w_noise"].T
    for unused in {"w_noise", "select_bias", "balance_f"} & set(params) - set(grads):
        grads[unused] = np.zeros_like(params[unused])
    return d_x_TD if scale_TD is None else d_x_TD * scale_TD, grads
