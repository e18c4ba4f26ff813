"""AdamW, the schedule of its learning rate, and clipping by the global norm.

Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.

    m ← β₁ m + (1 - β₁) g,   v ← β₂ v + (1 - β₂) g²,
    θ ← θ - η (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε) - η λ θ

Who differs. The paper has two rates: θ ← θ - η_t (α m̂ / (√v̂ + ε) + λ θ), with a schedule η_t
that scales both terms, and a step size α that leaves the decay alone. Here η stands for η_t α and
scales the decay too, as in torch.optim.AdamW and optax: our λ is the paper's divided by α. PyTorch
decays every array, by default; here scales and biases are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from switch_np.operations import check, threads, tree


@dataclass(frozen=True)
class AdamW:
    """The optimizer's options.

    Parameters
    ----------
    beta_1, beta_2, epsilon
        Decay of the two moments, and what keeps the quotient finite.
    weight_decay
        λ, for weights of two or more axes; scales and biases are not decayed.
    """

    beta_1: float = 0.9
    beta_2: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        check.number("beta_1", self.beta_1, 0, 1)
        check.number("beta_2", self.beta_2, 0, 1)
        check.number("epsilon", self.epsilon, 0)
        check.number("weight_decay", self.weight_decay, 0)
        check.plain(self)


def init(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the moments, zeros: {"m": ..., "v": ...}, each with the structure of `params`."""
    return {"m": tree.apply(np.zeros_like, params), "v": tree.apply(np.zeros_like, params)}


def step(params: Mapping[str, Any], grads: Mapping[str, Any], moments: Mapping[str, Any],
         config: AdamW, learning_rate: float, count: int) -> None:
    """Take one step, in place: `params` and `moments` are written to.

    Parameters
    ----------
    params, grads, moments
        Trees of one structure; the moments from `init`.
    config, learning_rate
        Options, and η of this step.
    count
        t, the number of this step, counted from 1.

    Examples
    --------
    >>> params, grads = {"w": np.array([1.0])}, {"w": np.array([0.5])}
    >>> step(params, grads, init(params), AdamW(), learning_rate=0.1, count=1)
    >>> params["w"].round(6).tolist()
    [0.9]
    """
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

    leaves = [tree.flatten(each) for each in (params, grads, moments["m"], moments["v"])]
    parts = [(leaf, part) for leaf, value in leaves[0].items() for part in _parts(value)]
    threads.each(lambda leaf, part: update(*(flat[leaf][part] for flat in leaves)), *zip(*parts),
                 size=sum(value.size for value in leaves[0].values()))


def _parts(value: np.ndarray) -> list[Any]:
    """Cut along the first axis, so that a part of an array and its moments fit into a cache."""
    if not value.ndim:
        return [...]
    return threads.cut(0, len(value), value.size // max(len(value), 1), 2 ** 15)


def clip(grads: Mapping[str, Any], max_norm: float) -> tuple[dict[str, Any], float]:
    """Return gradients scaled down so that their global norm is at most `max_norm`, and that norm.

    >>> clipped, norm = clip({"a": np.array([3.0]), "b": np.array([4.0])}, 1.0)
    >>> clipped["b"].round(6).tolist(), norm
    ([0.8], 5.0)
    """
    leaves = tree.flatten(grads).values()
    norm = math.sqrt(sum(float(np.vdot(grad, grad)) for grad in leaves))
    if norm <= max_norm:
        return dict(grads), norm
    return tree.apply(lambda grad: grad * (max_norm / norm), grads), norm


def learning_rate(count: int, total: int, warmup: int, peak: float) -> float:
    """Return η of step `count` (from 1): straight up to `peak`, then down a half cosine to 0.

    >>> [round(learning_rate(count, 10, 2, 1.0), 12) for count in (1, 2, 6, 10)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if count <= warmup:
        return peak * count / warmup
    done = (count - warmup) / max(total - warmup, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
