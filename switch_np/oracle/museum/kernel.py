"""A Switch layer in plain arrays: the copy in which the museum plants its bugs.

Independent of `switch_np.switch` but for the capacity, which it asks of the config: the paper's
rules for one flat group of tokens, any number of choices, forward and backward by hand, each
intermediate stored by `store`, which rounds it. The museum replaces single lines of this text, so
each line stands once.
"""

import numpy as np


def run(x, params, config, d_y, balance_coef, z_coef, padding, expert, store):
    """Return outputs, decisions and gradients, as a dict."""
    w_router, w_in, w_out = params["w_router"], params["w_in"], params["w_out"]
    tokens, num_experts, top_k = len(x), w_router.shape[1], config.top_k
    real = np.ones(tokens, bool) if padding is None else ~padding
    count = max(int(real.sum()), 1)

    logits = store(x @ w_router)
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

    y = np.zeros_like(x)
    saved = []
    for e in range(num_experts):
        token, choice = np.nonzero(kept & (expert == e))
        rows = x[token]
        before = store(rows @ w_in[e])
        hidden = np.maximum(before, 0)
        out = store(hidden @ w_out[e])
        gate = gates[token, choice][:, None]
        y[token] = store(y[token] + store(gate * out))
        saved.append((token, choice, rows, before, hidden, out, gate))

    share = (np.bincount(expert[real, 0], minlength=num_experts) / count).astype(x.dtype)
    mean_probs = probs[real].sum(axis=0) / count
    balance_loss = num_experts * (share * mean_probs).sum()
    z_loss = (log_z[real] ** 2).sum() / count

    d_x = np.zeros_like(x)
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

    d_probs = np.zeros_like(probs)
    np.put_along_axis(d_probs, expert, d_gates, axis=1)
    slope = balance_coef * num_experts / count * share
    d_probs[real] += slope
    inner = (d_probs * probs).sum(axis=1, keepdims=True)
    d_logits = probs * (d_probs - inner)
    d_logits[real] += z_coef * 2 / count * log_z[real, None] * probs[real]
    d_logits = store(d_logits)
    d_w_router = store(x.T @ d_logits)
    d_x = store(d_x + store(d_logits @ w_router.T))
    return {"y": y, "balance_loss": balance_loss, "z_loss": z_loss, "expert": expert,
            "kept": kept, "slot": slot, "grads": {
                "x": d_x, "w_router": d_w_router, "w_in": d_w_in, "w_out": d_w_out}}
