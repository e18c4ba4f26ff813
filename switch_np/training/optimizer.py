"""AdamW, the learning-rate schedule, and clipping by the global norm.

Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.

    m ← β₁ m + (1 - β₁) g,   v ← β₂ v + (1 - β₂) g²,
    θ ← θ - η (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε) - η λ θ

Who differs. In the paper's θ ← θ - η_t (α m̂ / (√v̂ + ε) + λ θ) the step size α scales only the first
term. Here, as in torch.optim.AdamW and optax, η = η_t α scales both: our λ is the paper's divided
by α. PyTorch decays every array by default; here scales and biases are not decayed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from switch_np.operations import check, threads, tree

BLOCK = 2 ** 15      # numbers at a time: those of gradients, moments and change stay in a cache


@dataclass(frozen=True)
class AdamW:
    """The options of AdamW: β₁, β₂, ε and λ, which is for arrays of two or more axes."""

    beta_1: float = 0.9
    beta_2: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check.number(name, value, 0, 1 if name.startswith("beta") else math.inf)
        check.plain(self)


def init(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the moments, zeros: {"m": ..., "v": ...}, each with the structure of `params`.

    One pass over one buffer updates the arrays of all parameters.
    """
    return {name: tree.packed(tree.apply(np.zeros_like, params)) for name in ("m", "v")}


def step(params: Mapping[str, Any], grads: Mapping[str, Any], moments: Mapping[str, Any],
         config: AdamW, learning_rate: float, count: int) -> None:
    """Take step t = `count`, from 1, at rate η, in place in `params` and in `moments` from `init`.

    >>> params, grads = {"w": np.array([1.0])}, {"w": np.array([0.5])}
    >>> step(params, grads, init(params), AdamW(), learning_rate=0.1, count=1)
    >>> params["w"].round(6).tolist()
    [0.9]
    """
    check.instance("config", config, AdamW)
    check_step(params, grads, moments, {"m": params, "v": params}, learning_rate, count)
    scale_1 = 1 - config.beta_1 ** count
    scale_2 = math.sqrt(1 - config.beta_2 ** count)
    rate = learning_rate * scale_2 / scale_1

    trees = params, grads, moments["m"], moments["v"]
    buffers, decay = [tree.in_one(each) for each in trees], learning_rate * config.weight_decay

    def update(rows: slice) -> None:
        value, grad, m, v = (buffer[rows] for buffer in buffers)
        m += (1 - config.beta_1) * (grad - m)
        v += (1 - config.beta_2) * (grad * grad - v)
        change = np.sqrt(v)
        change += config.epsilon * scale_2
        np.divide(m, change, out=change)
        change *= rate
        if rows.start >= first_matrix and decay:
            value *= 1 - decay
        value -= change

    size, first_matrix = buffers[0].size, sum(
        value.size for value in tree.leaves(params) if value.ndim < 2)
    threads.each(update, threads.cut(0, first_matrix, 1, BLOCK)
                 + threads.cut(first_matrix, size, 1, BLOCK), size=size)
    for each, buffer in zip(trees, buffers):
        if each is not grads:
            tree.put_back(buffer, each)


def check_step(params: Mapping[str, Any], grads: Mapping[str, Any], moments: Mapping[str, Any],
               like_moments: Mapping[str, Any], learning_rate: float, count: int) -> None:
    """Refuse gradients and moments that do not fit the parameters, or are NaN or infinite."""
    check.integer("count", count, 1)
    check.number("learning_rate", learning_rate, 0)
    check.alike("params", params, params)
    check.alike(f"step {count}: grads", grads, params, finite=True)
    check.alike("moments", moments, like_moments)


def square_sum(grads: Mapping[str, Any]) -> float:
    """Return the sum of the squares of all gradients."""
    buffer = tree.in_one(grads)
    return float(np.vdot(buffer, buffer))


def clip(grads: Mapping[str, Any], max_norm: float,
         square_sum: Callable[[Mapping[str, Any]], float] = square_sum
         ) -> tuple[dict[str, Any], float]:
    """Return a copy of the gradients with a global norm of at most `max_norm`; and their own norm.

    `square_sum` adds up the squares of all arrays, of which this process may hold only a part.

    >>> clipped, norm = clip({"a": np.array([3.0]), "b": np.array([4.0])}, 1.0)
    >>> clipped["b"].round(6).tolist(), norm
    ([0.8], 5.0)
    """
    check.number("max_norm", max_norm, 0)
    check.instance("grads", grads, Mapping)
    clipped = tree.packed(grads)
    norm = math.sqrt(square_sum(clipped))
    if not math.isfinite(norm):
        check.alike("grads", grads, grads, finite=True)
        raise check.NotFinite(f"grads must have a finite norm, got {norm}")
    if norm > max_norm:
        clipped.buffer *= max_norm / norm
    return clipped, norm


def learning_rate(count: int, total: int, warmup: int, peak: float) -> float:
    """Return η of step `count`, from 1: linear warm-up to `peak`, then a half cosine to 0.

    >>> [round(learning_rate(count, 10, 2, 1.0), 12) for count in (1, 2, 6, 10)]
    [0.5, 1.0, 0.5, 0.0]
    """
    for name, value, least in (("count", count, 1), ("total", total, 1), ("warmup", warmup, 0)):
        check.integer(name, value, least)
    check.number("peak", peak, 0)
    if count <= warmup:
        return peak * count / warmup
    done = (count - warmup) / max(total - warmup, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
