"""The least NumPy that computes the layer: what is left if all that makes it a library is left out.

One choice per token, rows packed, one group, no noise, no padding, no checks, no plan, no objects;
probabilities lie experts first, as suits NumPy. Between it and the bare products is what NumPy
costs; between it and ours, what a layer costs that checks, explains and does the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.cases import LayerCase
from benchmarks.subject import Subject
from switch_np.operations import threads


def layer(**sizes: Any) -> Subject:
    """Return the layer, forward and backward."""
    case = cases.layer(**sizes)
    return Subject(lambda: step(case), lambda: step(case))


def step(case: LayerCase) -> dict[str, np.ndarray]:
    """Return y and the gradients."""
    x, d_y = case.x, case.d_y
    w_router, w_in, w_out = (case.params[name] for name in ("w_router", "w_in", "w_out"))
    t, e = len(x), len(w_in)
    probs = (x @ w_router).T.copy()
    probs -= probs.max(axis=0)
    np.exp(probs, out=probs)
    probs /= probs.sum(axis=0)

    expert = probs.argmax(axis=0)
    chosen = expert * t + np.arange(t)
    token = expert.astype(np.uint8).argsort(kind="stable")
    load = np.bincount(expert, minlength=e)
    if load.max() > case.capacity:
        place = np.arange(t) - np.repeat(load.cumsum() - load, load)
        token = token[place < case.capacity]
    ends = np.minimum(load, case.capacity).cumsum().tolist()
    mine = [slice(begin, end) for begin, end in zip([0, *ends], ends)]
    row = np.zeros(t, int)
    row[token] = np.arange(len(token))
    dropped = np.ones(t, bool)
    dropped[token] = False
    gate = probs.take(chosen)

    rows = x.take(token, 0)
    hidden = np.empty((len(rows), w_in.shape[2]), x.dtype)
    out, zeros = np.empty_like(rows), np.zeros_like(hidden, shape=hidden.shape[1])

    def forward(i: int) -> None:
        mid = np.matmul(rows[mine[i]], w_in[i], out=hidden[mine[i]])
        np.maximum(mid, zeros, out=mid)
        np.matmul(mid, w_out[i], out=out[mine[i]])

    threads.each(forward, range(e), size=hidden.size)
    y = out.take(row, 0)
    y *= gate[:, None]
    y[dropped] = 0

    d_out = d_y.take(token, 0)
    d_probs = np.zeros_like(probs)
    d_probs.put(chosen.take(token), np.einsum("nd,nd->n", d_out, out))
    d_probs += (case.balance_coef * e / t ** 2 * load).astype(x.dtype)[:, None]
    d_out *= gate.take(token)[:, None]
    d_logits = d_probs * probs
    d_logits -= probs * d_logits.sum(axis=0)
    d_w_in, d_w_out, d_rows = np.empty_like(w_in), np.empty_like(w_out), np.empty_like(rows)

    def backward(i: int) -> None:
        d_mid = d_out[mine[i]] @ w_out[i].T
        np.multiply(d_mid, hidden[mine[i]] > 0, out=d_mid)
        np.matmul(rows[mine[i]].T, d_mid, out=d_w_in[i])
        np.matmul(d_mid, w_in[i].T, out=d_rows[mine[i]])
        np.matmul(hidden[mine[i]].T, d_out[mine[i]], out=d_w_out[i])

    threads.each(backward, range(e), size=hidden.size)
    d_x = d_rows.take(row, 0)
    d_x[dropped] = 0
    d_x += d_logits.T @ w_router.T
    return {"y": y, "x": d_x, "w_router": x.T @ d_logits.T, "w_in": d_w_in, "w_out": d_w_out}
