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
    """Return the moments, zeros: {"m": ..., "v": ...}, each with the structure of `params`."""
    return {"m": tree.apply(np.zeros_like, params), "v": tree.apply(np.zeros_like, params)}


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

    def update(value: np.ndarray, grad: np.ndarray, m: np.ndarray, v: np.ndarray) -> None:
        m += (1 - config.beta_1) * (grad - m)
        v += (1 - config.beta_2) * (grad * grad - v)
        divisor = np.sqrt(v)
        divisor += config.epsilon * scale_2
        if value.ndim > 1 and config.weight_decay:
            value *= 1 - learning_rate * config.weight_decay
        value -= rate * (m / divisor)

    trees = [tree.flatten(each) for each in (params, grads, moments["m"], moments["v"])]
    work = [(name, rows) for name, value in trees[0].items() for rows in _row_slices(value)]
    threads.each(lambda name, rows: update(*(flat[name][rows] for flat in trees)), *zip(*work),
                 size=sum(value.size for value in trees[0].values()))


def check_step(params: Mapping[str, Any], grads: Mapping[str, Any], moments: Mapping[str, Any],
               like_moments: Mapping[str, Any], learning_rate: float, count: int) -> None:
    """Refuse gradients and moments that do not fit the parameters, or are NaN or infinite."""
    check.integer("count", count, 1)
    check.number("learning_rate", learning_rate, 0)
    check.alike("params", params, params)
    check.alike(f"step {count}: grads", grads, params, finite=True)
    check.alike("moments", moments, like_moments)


def _row_slices(value: np.ndarray) -> list[Any]:
    """Cut along the first axis, so that the slices of an array and its moments fit into a cache."""
    if not value.ndim:
        return [...]
    return threads.cut(0, len(value), value.size // max(len(value), 1), 2 ** 15)


def square_sum(grads: Mapping[str, Any]) -> float:
    """Return the sum of the squares of all gradients."""
    return sum(float(np.vdot(grad, grad)) for grad in tree.flatten(grads).values())


def clip(grads: Mapping[str, Any], max_norm: float,
         square_sum: Callable[[Mapping[str, Any]], float] = square_sum
         ) -> tuple[dict[str, Any], float]:
    """Return the gradients, scaled down to a global norm of at most `max_norm`, and their norm.

    `square_sum` adds up all squares, of which this process may hold but a part.

    >>> clipped, norm = clip({"a": np.array([3.0]), "b": np.array([4.0])}, 1.0)
    >>> clipped["b"].round(6).tolist(), norm
    ([0.8], 5.0)
    """
    check.number("max_norm", max_norm, 0)
    check.instance("grads", grads, Mapping)
    norm = math.sqrt(square_sum(grads))
    if not math.isfinite(norm):
        check.alike("grads", grads, grads, finite=True)
        raise check.NotFinite(f"grads must have a finite norm, got {norm}")
    if norm <= max_norm:
        return dict(grads), norm
    return tree.apply(lambda grad: grad * (max_norm / norm), grads), norm


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
