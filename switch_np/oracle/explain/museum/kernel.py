"""A Switch layer in plain arrays: the copy in which the museum plants its bugs.

It shares nothing with `switch_np.switch` but the capacity, which the config gives: one group of
tokens and any number of choices, forward and backward by hand. It covers the conventions that most
of today's layers need: gates given in place of a router, sigmoid scores, gates divided by their sum
and scaled, the counts of f, biases, gated experts with limits, shared ones with a gate.
`store` rounds each intermediate. Exhibits replace lines of this text: each occurs once.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from switch_np.operations import activations

Array = np.ndarray
Params = dict[str, Array]
Store = Callable[[Any], Any]


def run(x: Array, params: Params, config: Any, d_y: Array | None, balance_coef: float,
        z_coef: float, padding: Array | None, expert: Array | None, kept: Array | None,
        store: Store) -> dict[str, Any]:
    """Return outputs, choices and, unless d_y is None, gradients as a dict."""
    out, cache = forward(x, params, config, padding, expert, kept, store)
    grads = {} if d_y is None else backward(
        d_y, params, config, out, cache, balance_coef, z_coef, store)
    return {**out, "grads": grads}


def forward(x: Array, params: Params, config: Any, padding: Array | None, expert: Array | None,
            told: Array | None, store: Store) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return outputs and choices as a dict, and what `backward` needs."""
    tokens, num_experts, top_k = len(x), len(params["w_in"]), config.top_k
    real = np.ones(tokens, bool) if padding is None else ~padding
    count = max(int(real.sum()), 1)

    logits, probs, softmax, log_z = scores(x, params, config, expert, store)
    ranked = probs + params.get("select_bias", 0)
    if expert is None:
        expert = np.argsort(-ranked, axis=1, kind="stable")[:, :top_k]
    slot = slots(expert, real, config.expert_capacity(tokens), probs, logits)
    slot = slot if told is None else np.where(told, 0, -1)
    kept = slot >= 0
    chosen = np.take_along_axis(probs, expert, axis=1)
    divided = config.conventions.renorm == "pre" and top_k > 1
    weight = chosen.sum(axis=1, keepdims=True) if divided else np.ones_like(chosen[:, :1])
    gates = store(config.conventions.gate_scale * chosen / weight)

    y, saved = through_experts(x, params, config, expert, kept, gates, store)
    if "shared_w_in" in params:
        out, hidden = network(x, shared_expert(params, config), config, store)
        gate = shared_gate(x, params, store)
        y = store(y + real[:, None] * gate * out)
        y = store(y / 2) if config.conventions.shared_average else y
        saved.append((hidden, out, gate))

    counts = config.conventions.balance_counts
    counted = {"first": 1, "none": 0}.get(counts, top_k)
    share = np.bincount(expert[real, :counted].ravel(), minlength=num_experts) / count
    share = (share / (top_k if "over_k" in counts else 1)).astype(x.dtype)
    mean_probs = probs[real].sum(axis=0) / count
    balance_loss = num_experts * (share * mean_probs).sum()
    z_loss = (log_z[real] ** 2).sum() / count * (config.conventions.z_when != "never")
    given = dict(y=y, balance_loss=balance_loss, z_loss=z_loss, expert=expert, kept=kept, slot=slot)
    return given, (x, real, count, probs, softmax, log_z, gates, weight, saved, share)


def scores(x: Array, params: Params, config: Any, expert: Array | None, store: Store
           ) -> tuple[Array, Array, Array, Array]:
    """Return logits, the scores that choose the experts, softmax and log of the sum of exp."""
    if "gates" in params and expert is not None:               # given: no router is known
        probs = np.zeros((len(x), len(params["w_in"])), x.dtype)
        np.put_along_axis(probs, expert, params["gates"], axis=1)
        unknown = np.nan * probs
        return unknown, probs, unknown, unknown[:, 0]
    logits = store(x @ params["w_router"] + params.get("b_router", 0))
    highest = logits.max(axis=1, keepdims=True)
    odds = np.exp(logits - highest)
    total = odds.sum(axis=1, keepdims=True)
    softmax = odds / total
    log_z = (highest + np.log(total))[:, 0]
    sigmoid = config.conventions.scores == "sigmoid"
    return logits, store(activations.sigmoid(logits) if sigmoid else softmax), softmax, log_z


def slots(expert: Array, real: Array, capacity: int | None, probs: Array, logits: Array) -> Array:
    """Return the slot of every choice, -1 for those dropped: first choices before second ones."""
    (tokens, top_k), num_experts = expert.shape, probs.shape[1]
    capacity = tokens if capacity is None else capacity
    slot, used = np.full((tokens, top_k), -1), np.zeros(num_experts, int)
    order = [(token, choice) for choice in range(top_k) for token in range(tokens)]
    for token, choice in order:
        e = expert[token, choice]
        if real[token] and used[e] < capacity:
            slot[token, choice] = used[e]
            used[e] += 1
    return slot


def through_experts(x: Array, params: Params, config: Any, expert: Array, kept: Array, gates: Array,
                    store: Store) -> tuple[Array, list[tuple[Any, ...]]]:
    """Return y, and the intermediates of each expert."""
    y, saved = np.zeros_like(x), []
    for e in range(len(params["w_in"])):
        token, choice = np.nonzero(kept & (expert == e))
        rows = x[token]
        gate = gates[token, choice][:, None]
        out, hidden = network(rows, one_expert(params, e), config, store)
        y[token] = store(y[token] + store(gate * out))
        saved.append((token, choice, rows, hidden, out, gate))
    return y, saved


def one_expert(params: Params, e: int) -> Params:
    """Return the weights of expert e: matrices (D, F) or (F, D), and biases."""
    return {name: value[e] for name, value in params.items()
            if name not in ("w_router", "b_router", "select_bias", "gates")
            and name[:7] != "shared_"}


def shared_expert(params: Params, config: Any) -> Params:
    """Return the weights of the shared experts, which are one, and its own limit if it has one."""
    limit = config.conventions.shared_limit
    own = {} if limit == "same" else {"limit": limit}
    return own | {name[7:]: value for name, value in params.items() if name[:7] == "shared_"}


def shared_gate(x: Array, params: Params, store: Store) -> Array:
    """Return the shared expert's gate (T, 1), 1 where it has none."""
    if "shared_w_router" not in params:
        return np.ones_like(x[:, :1])
    return np.asarray(store(activations.sigmoid(store(x @ params["shared_w_router"]))))


def network(rows: Array, weights: Params, config: Any, store: Store
            ) -> tuple[Array, tuple[Array, ...]]:
    """Return an expert's outputs, and its hidden units before and after the activation."""
    linear = store(rows @ weights["w_in"] + weights.get("b_in", 0))
    before = linear
    if "w_gate" in weights:
        before = store(rows @ weights["w_gate"] + weights.get("b_gate", 0))
    active, up, _, _ = factors(linear, before, weights, config, store)
    hidden = store(active * up if "w_gate" in weights else active)
    out = store(hidden @ weights["w_out"] + weights.get("b_out", 0))
    return out, (linear, before, hidden)


def factors(linear: Array, before: Array, weights: Params, config: Any, store: Store
            ) -> tuple[Array, Array, Array, Array]:
    """Return the hidden units' factors, the first one's slope, and where the second is in range."""
    has, kind = config.conventions, config.conventions.expert_activation
    alpha = store(np.full((1, 1), has.expert_silu_factor))
    active, slope = (f(kind, alpha * before) for f in (activations.forward, activations.slope))
    active /= alpha
    limit = weights.get("limit", has.expert_limit)
    if limit is None or "w_gate" not in weights:
        return active, linear + has.expert_linear_offset, slope, np.ones_like(linear)
    most = store(np.full((1, 1), limit))
    cap = most if has.expert_limit_at == "output" else (
        activations.forward(kind, alpha * most) / alpha)
    up = np.clip(linear, -most, most) + has.expert_linear_offset
    return np.minimum(active, cap), up, slope * (active <= cap), 1.0 * (np.abs(linear) <= most)


def backward(d_y: Array, params: Params, config: Any, out: dict[str, Any], cache: tuple[Any, ...],
             balance_coef: float, z_coef: float, store: Store) -> Params:
    """Return the gradients of x and of the parameters as a dict."""
    x, real, count, probs, softmax, log_z, gates, weight, saved, share = cache
    expert, num_experts = out["expert"], probs.shape[1]
    d_y = d_y / 2 if config.conventions.shared_average else d_y
    d_x, d_gates, grads = back_through_experts(d_y, params, config, gates, saved, store)
    if "shared_w_in" in params:
        d_rows, mine = shared_back(d_y * real[:, None], x, params, saved[-1], config, store)
        grads |= {f"shared_{name}": grad for name, grad in mine.items()}
        d_x = store(d_x + d_rows)

    d_chosen = config.conventions.gate_scale * d_gates / weight
    if config.conventions.renorm == "pre" and config.top_k > 1:
        d_chosen -= (d_gates * gates).sum(axis=1, keepdims=True) / weight
    d_probs = np.zeros_like(probs)
    np.put_along_axis(d_probs, expert, d_chosen, axis=1)
    slope = balance_coef * num_experts / count * share
    if "gates" in params:
        return {"x": d_x, **grads, "gates": np.take_along_axis(d_probs, expert, axis=1)}
    d_probs[real] += slope
    inner = (d_probs * probs).sum(axis=1, keepdims=True)
    d_logits = probs * (d_probs - inner)
    if config.conventions.scores == "sigmoid":
        d_logits = d_probs * probs * (1 - probs)
    z_coef = z_coef * (config.conventions.z_when != "never")
    d_logits[real] += z_coef * 2 / count * log_z[real, None] * softmax[real]
    d_logits = store(d_logits)
    grads["w_router"] = store(x.T @ d_logits)
    if "b_router" in params:
        grads["b_router"] = store(d_logits.sum(axis=0))
    d_x = store(d_x + store(d_logits @ params["w_router"].T))
    return {"x": d_x, **grads}


def back_through_experts(d_y: Array, params: Params, config: Any, gates: Array, saved: list[Any],
                         store: Store) -> tuple[Array, Array, Params]:
    """Return the gradients of x without the router's part, of the gates, of the weights."""
    d_x, d_gates = np.zeros_like(d_y), np.zeros_like(gates)
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    for e in range(len(params["w_in"])):
        token, choice, rows, hidden, out, gate = saved[e]
        d_row = d_y[token]
        d_gates[token, choice] = store((d_row * out).sum(axis=1))
        d_out = store(gate * d_row)
        d_rows, mine = network_back(d_out, rows, one_expert(params, e), hidden, config, store)
        for name, grad in mine.items():
            grads[name][e] = grad
        d_x[token] = store(d_x[token] + d_rows)
    return d_x, d_gates, grads


def shared_back(d_y: Array, x: Array, params: Params, saved: tuple[Any, ...], config: Any,
                store: Store) -> tuple[Array, Params]:
    """Return the gradients of the shared expert's x and weights, its gate's included."""
    hidden, out, gate = saved
    d_rows, grads = network_back(store(gate * d_y), x, shared_expert(params, config), hidden,
                                 config, store)
    if "shared_w_router" in params:
        d_logit = store((d_y * out).sum(axis=1, keepdims=True) * gate * (1 - gate))
        grads["w_router"] = store(x.T @ d_logit)
        d_rows = store(d_rows + d_logit @ params["shared_w_router"].T)
    return d_rows, grads


def network_back(d_out: Array, rows: Array, weights: Params, saved: tuple[Array, ...], config: Any,
                 store: Store) -> tuple[Array, Params]:
    """Return the gradients of an expert's rows and weights."""
    linear, before, hidden = saved
    active, up, slope, free = factors(linear, before, weights, config, store)
    d_hidden = store(d_out @ weights["w_out"].T)
    d_before = store(d_hidden * slope)
    into = {"out": (hidden, d_out), "in": (rows, d_before)}
    if "w_gate" in weights:
        d_linear = store(d_hidden * active * free)
        into |= {"in": (rows, d_linear), "gate": (rows, store(d_before * up))}
    grads = {f"w_{name}": store(value.T @ d_z) for name, (value, d_z) in into.items()}
    grads |= {f"b_{name}": store(d_z.sum(axis=0)) for name, (_, d_z) in into.items()
              if f"b_{name}" in weights}
    del into["out"]
    d_rows = store(sum(d_z @ weights[f"w_{name}"].T for name, (_, d_z) in into.items()))
    return d_rows, grads
