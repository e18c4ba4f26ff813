"""Inverted dropout with a mask drawn beforehand.

Forward:   y = x ⊙ keep / (1 - rate)
Backward:  d_x = d_y ⊙ keep / (1 - rate): the mask is data, so y is linear in x.
A mask of None leaves x as it is.
"""

from __future__ import annotations

import numpy as np


def draw(rng: np.random.Generator, shape: tuple[int, ...], rate: float) -> np.ndarray | None:
    """Return a bool mask, True (kept) with probability 1 - rate; None at rate 0.

    >>> draw(np.random.default_rng(0), (2, 3), 0.5)
    array([[ True,  True,  True],
           [False, False, False]])
    """
    return rng.random(shape, dtype=np.float32) >= rate if rate else None


def forward(x: np.ndarray, keep: np.ndarray | None, rate: float) -> np.ndarray:
    """Return x with what is dropped set to zero, and the rest scaled up to keep the mean."""
    return x if keep is None else x * keep * (1 / (1 - rate))


def backward(d_y: np.ndarray, keep: np.ndarray | None, rate: float) -> np.ndarray:
    """Return d_x: the same mask and scale, on the gradient."""
    return forward(d_y, keep, rate)
