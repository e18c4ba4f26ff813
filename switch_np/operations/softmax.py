"""Softmax over the last axis, and the logarithm of its normalizer.

Source: equation 1 of the paper; log Z is what the router z-loss squares.

Forward:   p = exp(x - max x) / Z,   Z = Σ exp(x - max x),   log_z = max x + log Z
Backward:  ∂p_j/∂x_i = p_j (δ_ij - p_i) and ∂log_z/∂x_i = p_i, hence
           d_x = p ⊙ (d_p - Σ_j p_j d_p_j) + p d_log_z.
The maximum only shifts x; p and log_z do not depend on it, so it has no gradient. Where neither
exp x nor its sums leave the range of float32, `of` does without it.
"""

from collections.abc import Callable

import numpy as np

SHORT = 32    # length of a row below which columns are faster
HIGH, LOW = 60.0, 1e-20    # the largest x, and the smallest sum of exp x, without a shift


def forward(x: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities (..., n), fresh or in `out`, which may be x, and log Σ exp(x) (...).

    >>> probs, log_z = forward(np.array([[0.0, np.log(3.0)]]))
    >>> probs.round(3), log_z.round(3)
    (array([[0.25, 0.75]]), array([1.386]))
    """
    if x.shape[-1] < SHORT:
        probs, log_z = _by_columns(x)
        if out is not None:
            out[:], probs = probs, out
        return probs, log_z
    index = x.real.argmax(axis=-1)[..., None]
    highest = np.take_along_axis(x.real, index, -1)         # in half the time of max
    probs = np.subtract(x, highest, out=out)
    np.exp(probs, out=probs)
    total = _sum(probs)
    probs /= total
    return probs, (highest + np.log(total))[..., 0]


def of(scores: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the probabilities (..., n) of the x that `scores` returns, fresh in every call.

    Two passes less than `forward`, unless a row needs the shift.

    >>> of(lambda: np.array([[0.0, np.log(3.0)], [1e4, 0.0]])).round(3).tolist()
    [[0.25, 0.75], [1.0, 0.0]]
    """
    x = scores()
    if type(x) is np.ndarray and x.real.max(initial=-np.inf) < HIGH:
        np.exp(x, out=x)
        total = _sum(x)
        if total.real.min(initial=np.inf) > LOW:
            x /= total
            return x
        x = scores()
    return forward(x, out=x)[0]


def _by_columns(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same, with rows laid out as columns: NumPy is slow along short rows."""
    probs = x.reshape(-1, x.shape[-1]).T.copy()
    highest = probs.real.max(axis=0)
    probs -= highest
    np.exp(probs, out=probs)
    total = probs.sum(axis=0)
    probs /= total
    return probs.T.copy().reshape(x.shape), (highest + np.log(total)).reshape(x.shape[:-1])


def backward(d_probs: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Return d_x (..., n) from the gradient of the probabilities (..., n)."""
    d_x: np.ndarray = d_probs * probs
    d_x -= probs * _sum(d_x)
    return d_x


def _sum(x: np.ndarray) -> np.ndarray:
    """Return the sums of the rows (..., 1); `einsum` takes a fraction of the time of `sum`."""
    total: np.ndarray = np.einsum("...n->...", x)[..., None]
    return total
