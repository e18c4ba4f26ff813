"""Adafactor: per-entry rates from second moments that are kept by row and by column.

Source: Shazeer and Stern, "Adafactor: Adaptive learning rates with sublinear memory cost" (2018),
algorithms 4 (matrices), 5 (vectors), 6 (the defaults). For a matrix X with gradient G, at step t:

    β̂ = 1 - t^-c,   ρ = min(cap, 1 / √t),   α = max(ε₂, RMS(X)) ρ
    R ← β̂ R + (1 - β̂) (row means of G² + ε₁),   C likewise with column means
    V̂ = R C / mean(R),   U = G / √V̂,   Û = U / max(1, RMS(U) / d)
    X ← X - α Û - α λ X

The paper's sums over rows and columns give the same V̂. A vector keeps V̂ in full. No bias is
corrected, since β̂ = 0 at the first step. An array with more than two axes, such as the experts'
(E, D, F), is a batch of matrices; each RMS is taken over the whole array.

The paper has neither a first moment nor weight decay. With beta_1, M ← β₁ M + (1 - β₁) α Û replaces
α Û, as in mesh_tensorflow, which trained the Switch Transformer; α scales λ, as in transformers.

Who differs. All decay vectors too. transformers: the cap is always 1e-2. torch.optim: √V̂ ≥ ε₁ in
place of ε₁ in G² (by default 2e-16 in float64); the decay is cap·λ X; always relative and scaled,
no first moment. optax: the decay is λ X; β̂ is computed in float32; it and mesh_tensorflow factor
along the two largest axes, if both have at least 128 entries (mesh_tensorflow: 32).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from switch_np.operations import check, tree
from switch_np.training import optimizer

SMALLEST = float(np.finfo(np.float32).tiny)   # smaller float32 numbers lose digits, or are 0


@dataclass(frozen=True)
class Adafactor:
    """The options of Adafactor; the defaults are the paper's.

    Parameters
    ----------
    decay, epsilon_1, epsilon_2, clip_threshold, beta_1, weight_decay
        c, ε₁, ε₂, d, β₁ and λ above; None: no first moment; λ is for arrays of two or more axes.
    relative_step, scale_parameter
        If False, ρ is the learning rate, which is otherwise its cap; if False, α = ρ.
    """

    decay: float = 0.8
    epsilon_1: float = 1e-30
    epsilon_2: float = 1e-3
    clip_threshold: float = 1.0
    beta_1: float | None = None
    weight_decay: float = 0.0
    relative_step: bool = True
    scale_parameter: bool = True

    def __post_init__(self) -> None:
        for name, least in dict(decay=0, epsilon_1=SMALLEST, epsilon_2=0, clip_threshold=SMALLEST,
                                weight_decay=0).items():
            check.number(name, getattr(self, name), least)
        if self.beta_1 is not None:
            check.number("beta_1", self.beta_1, 0, 1)
        for name in ("relative_step", "scale_parameter"):
            check.flag(name, getattr(self, name))
        check.plain(self)


def init(params: Mapping[str, Any], config: Adafactor) -> dict[str, Any]:
    """Return the moments, zeros, by parameter.

    Of an array (..., n, m) {"row": (..., n), "column": (..., m)}, of a vector {"v": (n,)}; with
    beta_1 also "m", of the parameter's shape.

    >>> moments = init({"w_in": np.zeros((8, 16, 64)), "scale": np.zeros(16)}, Adafactor())
    >>> {name: value.shape for name, value in tree.flatten(moments).items()}
    {'w_in.row': (8, 16), 'w_in.column': (8, 64), 'scale.v': (16,)}
    """
    return dict(tree.apply(np.zeros_like, _like_moments(params, config)))


def _like_moments(params: Mapping[str, Any], config: Adafactor) -> dict[str, Any]:
    """Return views of the parameters in the shapes of the moments."""
    def views(value: np.ndarray) -> dict[str, np.ndarray]:
        return ({"row": value[..., 0], "column": value[..., 0, :]} if value.ndim > 1
                else {"v": value}) | ({} if config.beta_1 is None else {"m": value})

    return dict(tree.apply(views, params))


def rms(value: np.ndarray) -> float:
    """Return the root of the mean square."""
    return math.sqrt(float(np.vdot(value, value)) / value.size)


def step(params: Mapping[str, Any], grads: Mapping[str, Any], moments: Mapping[str, Any],
         config: Adafactor, learning_rate: float, count: int,
         rms: Callable[[np.ndarray], float] = rms) -> None:
    """Take one step, in place, as `optimizer.step` does.

    `learning_rate` is ρ or, with relative_step, its cap (1e-2 in the paper). `rms` takes it
    over a whole array, of which this process may hold only a part.

    >>> params, grads = {"w": np.full((2, 2), 4.0)}, {"w": np.array([[0.5, -1.0], [1.0, -2.0]])}
    >>> step(params, grads, init(params, Adafactor()), Adafactor(), learning_rate=1e-2, count=1)
    >>> params["w"].round(6).tolist()
    [[3.96, 4.04], [3.96, 4.04]]
    """
    check.instance("config", config, Adafactor)
    optimizer.check_step(params, grads, moments, _like_moments(params, config), learning_rate,
                         count)
    rho = min(learning_rate, 1 / math.sqrt(count)) if config.relative_step else learning_rate
    weight = float(count) ** -config.decay

    def update(value: np.ndarray, grad: np.ndarray, moment: Mapping[str, np.ndarray]) -> None:
        alpha = rho * max(config.epsilon_2, rms(value)) if config.scale_parameter else rho
        change = _normalize(grad, moment, weight, config.epsilon_1)
        change *= alpha / max(1.0, rms(change) / config.clip_threshold)
        if config.beta_1 is not None:
            _average(moment["m"], change, 1 - config.beta_1)
            change = moment["m"]
        if value.ndim > 1 and config.weight_decay:
            value *= 1 - alpha * config.weight_decay
        value -= change

    tree.apply(update, params, grads, moments)


def _normalize(grad: np.ndarray, moment: Mapping[str, np.ndarray], weight: float,
               epsilon_1: float) -> np.ndarray:
    """Update the second moments, 1 - β̂ being `weight`, and return U = G / √V̂."""
    square = grad * grad + epsilon_1
    if grad.ndim < 2:
        _average(moment["v"], square, weight)
        return np.asarray(grad / np.sqrt(moment["v"]))
    _average(moment["row"], square.mean(-1), weight)
    _average(moment["column"], square.mean(-2), weight)
    # Roots before the product: where every gradient is 0, R C = ε₁², which is 0 in float32.
    row = np.sqrt(moment["row"]) / np.sqrt(moment["row"].mean(-1, keepdims=True))
    return np.asarray(grad / row[..., :, None] / np.sqrt(moment["column"])[..., None, :])


def _average(moment: np.ndarray, value: np.ndarray, weight: float) -> None:
    # Not moment += weight * (value - moment): that loses ε₁ beside a large moment.
    moment *= 1 - weight
    moment += weight * value
