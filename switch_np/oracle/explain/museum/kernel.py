"""A Switch layer in plain arrays: the copy in which the museum plants its bugs.

It shares nothing with `switch_np.switch` but the capacity, which the config gives: the paper's
layer for one group of tokens and any number of choices, forward and backward by hand. `store`
rounds each intermediate. Exhibits replace lines of this text, so each line they name occurs once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Store = Callable[[Any], Any]


def run(x: np.ndarray, params: dict[str, np.ndarray], config: Any, d_y: np.ndarray,
        balance_coef: float, z_coef: float, padding: np.ndarray | None,
        expert: np.ndarray | None, store: Store) -> dict[str, Any]:
    """Return outputs, choices and gradients as a dict."""
    out, cache = forward(x, params, config, padding, expert, store)
    return {**out, "grads": backward(d_y, params, out, cache, balance_coef, z_coef, store)}


def forward(x: np.ndarray, params: dict[str, np.ndarray], config: Any, padding: np.ndarray | None,
            expert: np.ndarray | None, store: Store) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return outputs and choices as a dict, and what `backward` needs."""
    tokens, num_experts, top_k = len(x), params["w_router"].shape[1], config.top_k
    real = np.ones(tokens, bool) if padding is None else ~padding
    count = max(int(real.sum()), 1)

    logits = store(x @ params["w_router"])
    highest = logits.max(axis=1, keepdims=True)
    odds = np.exp(logits - highest)
    total = odds.sum(axis=1, keepdims=True)
    probs = store(odds / total)
    log_z = (highest + np.log(total))[:, 0]

    if expert is None:
        expert = np.argsort(-probs, axis=1, kind="stable")[:, :top_k]
    capacity = config.expert_capacity(tokens)
    capacity = tokens if capacity is None else capacity
    slot = np.full((tokens, top_k), -1)
    used = np.zeros(num_experts, int)
    order = [(token, choice) for choice in range(top_k) for token in range(tokens)]
    for token, choice in order:
        e = expert[token, choice]
        if real[token] and used[e] < capacity:
            slot[token, choice] = used[e]
            used[e] += 1
    kept = slot >= 0
    gates = np.take_along_axis(probs, expert, axis=1)

    y, saved = through_experts(x, params["w_in"], params["w_out"], expert, kept, gates, store)

    share = (np.bincount(expert[real, 0], minlength=num_experts) / count).astype(x.dtype)
    mean_probs = probs[real].sum(axis=0) / count
    balance_loss = num_experts * (share * mean_probs).sum()
    z_loss = (log_z[real] ** 2).sum() / count
    out = {"y": y, "balance_loss": balance_loss, "z_loss": z_loss, "expert": expert, "kept": kept,
           "slot": slot}
    return out, (x, real, count, probs, log_z, gates, saved, share)


def through_experts(x: np.ndarray, w_in: np.ndarray, w_out: np.ndarray, expert: np.ndarray,
                    kept: np.ndarray, gates: np.ndarray, store: Store
                    ) -> tuple[np.ndarray, list[tuple[Any, ...]]]:
    """Return y, and the intermediates of each expert."""
    y = np.zeros_like(x)
    saved = []
    for e in range(len(w_in)):
        token, choice = np.nonzero(kept & (expert == e))
        rows = x[token]
        before = store(rows @ w_in[e])
        hidden = np.maximum(before, 0)
        out = store(hidden @ w_out[e])
        gate = gates[token, choice][:, None]
        y[token] = store(y[token] + store(gate * out))
        saved.append((token, choice, rows, before, hidden, out, gate))
    return y, saved


def backward(d_y: np.ndarray, params: dict[str, np.ndarray], out: dict[str, Any],
             cache: tuple[Any, ...], balance_coef: float, z_coef: float, store: Store
             ) -> dict[str, np.ndarray]:
    """Return the gradients of x and of the parameters as a dict."""
    x, real, count, probs, log_z, gates, saved, share = cache
    expert, num_experts = out["expert"], probs.shape[1]
    d_x, d_gates, d_w_in, d_w_out = back_through_experts(
        d_y, params["w_in"], params["w_out"], gates, saved, store)

    d_probs = np.zeros_like(probs)
    np.put_along_axis(d_probs, expert, d_gates, axis=1)
    slope = balance_coef * num_experts / count * share
    d_probs[real] += slope
    inner = (d_probs * probs).sum(axis=1, keepdims=True)
    d_logits = probs * (d_probs - inner)
    d_logits[real] += z_coef * 2 / count * log_z[real, None] * probs[real]
    d_logits = store(d_logits)
    d_w_router = store(x.T @ d_logits)
    d_x = store(d_x + store(d_logits @ params["w_router"].T))
    return {"x": d_x, "w_router": d_w_router, "w_in": d_w_in, "w_out": d_w_out}


def back_through_experts(d_y: np.ndarray, w_in: np.ndarray, w_out: np.ndarray, gates: np.ndarray,
                         saved: list[tuple[Any, ...]], store: Store) -> tuple[np.ndarray, ...]:
    """Return the gradients of x without the router's part, of the gates, of w_in and of w_out."""
    d_x = np.zeros_like(d_y)
    d_gates = np.zeros_like(gates)
    d_w_in, d_w_out = np.zeros_like(w_in), np.zeros_like(w_out)
    for e, (token, choice, rows, before, hidden, out, gate) in enumerate(saved):
        d_row = d_y[token]
        d_gates[token, choice] = store((d_row * out).sum(axis=1))
        d_out = store(gate * d_row)
        d_w_out[e] = store(hidden.T @ d_out)
        d_before = store(d_out @ w_out[e].T) * (before > 0)
        d_w_in[e] = store(rows.T @ d_before)
        d_x[token] = store(d_x[token] + store(d_before @ w_in[e].T))
    return d_x, d_gates, d_w_in, d_w_out
