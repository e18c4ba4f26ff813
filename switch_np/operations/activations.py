"""Activations of feed-forward networks and experts, each with its slope.

Forward:   relu x · 1[x > 0];  relu_squared relu(x)²;  the others x · share(x):  silu σ(x);
           gelu Φ(x);  gelu_tanh (1 + tanh u) / 2 with u = √(2/π) (x + 0.044715 x³)
Backward:  d_x = d_y · slope(x):  1[x > 0];  2 relu(x);  σ (1 + x (1 - σ));  Φ(x) + x φ(x);
           (1 + tanh u) / 2 + x (1 - tanh² u) u' / 2 with u' = √(2/π) (1 + 3 · 0.044715 x²).
All but ReLU, whose mask is that of the real part, are analytic: a complex step goes through.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from switch_np.operations import relu

ROOT_2_OVER_PI = math.sqrt(2 / math.pi)
CUBIC = 0.044715
FAR, KNOTS_PER_UNIT, TERMS = 8.5, 16, 9     # beyond FAR, Φ is 0 or 1 to the last bit


def forward(kind: str, x: np.ndarray) -> np.ndarray:
    """Return the activation of x, shaped like it.

    >>> forward("gelu", np.array([-1.0, 0.0, 1.0])).round(4).tolist()
    [-0.1587, 0.0, 0.8413]
    """
    if kind == "relu":
        return relu.forward(x)
    if kind == "relu_squared":
        return relu.forward(x) ** 2
    if kind == "gelu_tanh":
        share: np.ndarray = 0.5 + 0.5 * _tanh(x)
    else:
        share = sigmoid(x) if kind == "silu" else normal_cdf(x)
    y: np.ndarray = x * share
    return y


def slope(kind: str, x: np.ndarray) -> np.ndarray:
    """Return the derivative at x, shaped like it."""
    d_y: np.ndarray
    if kind == "relu":
        d_y = (x.real > 0).astype(x.dtype)
    elif kind == "relu_squared":
        d_y = 2 * relu.forward(x)
    elif kind == "silu":
        s = sigmoid(x)
        d_y = s * (1 + x * (1 - s))
    elif kind == "gelu":
        d_y = normal_cdf(x) + x * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    else:
        tanh, d_u = _tanh(x), ROOT_2_OVER_PI * (1 + 3 * CUBIC * x * x)
        d_y = 0.5 + 0.5 * tanh + 0.5 * x * (1 - tanh * tanh) * d_u
    return d_y


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^-x), which overflows nowhere.

    >>> sigmoid(np.array([-1000.0, 0.0])).tolist()
    [0.0, 0.5]
    """
    positive = x.real > 0
    small = np.exp(np.where(positive, -x, x))
    share: np.ndarray = np.where(positive, 1, small) / (1 + small)
    return share


def softplus(x: np.ndarray) -> np.ndarray:
    """Return log(1 + e^x), whose slope is the sigmoid.

    >>> softplus(np.array([0.0, 1000.0])).round(4).tolist()
    [0.6931, 1000.0]
    """
    positive = x.real > 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


def normal_cdf(x: np.ndarray) -> np.ndarray:
    """Return Φ(x), the share of a normal distribution below x, by Taylor at the nearest knot.

    >>> normal_cdf(np.array([-9.0, 0.0, 1.0, 9.0])).round(6).tolist()
    [0.0, 0.5, 0.841345, 1.0]
    """
    if type(x) is not np.ndarray:                            # arrays that round: once, as erf does
        return 0.5 + (normal_cdf(x.view(np.ndarray)) - 0.5).view(type(x)) * 1
    table = _taylor_of_normal_cdf(x.real.dtype)
    knot = np.rint(KNOTS_PER_UNIT * np.nan_to_num(np.clip(x.real, -FAR, FAR)))
    past = np.where(abs(x.real) > FAR, 0, x - knot / KNOTS_PER_UNIT)
    at = knot.astype(np.intp) + len(table[0]) // 2
    share = np.zeros_like(x)
    for coefficients in table:
        share *= past
        share += coefficients.take(at)
    return share


@cache
def _taylor_of_normal_cdf(dtype: np.dtype[Any]) -> np.ndarray:
    """Return (n, knots) the Taylor coefficients of Φ, the highest first; 0 or 1 at the outermost.

    φ' = -x φ, so at knot c those of φ are b, with (n + 1) b_(n+1) = -c b_n - b_(n-1).
    """
    c = np.arange(-FAR, FAR + 1 / KNOTS_PER_UNIT, 1 / KNOTS_PER_UNIT)
    table = [np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in c])]
    before, b = np.zeros(c.shape), np.exp(-0.5 * c * c) / math.sqrt(2 * math.pi)
    for n in range(TERMS):
        table.append(b / (n + 1))
        before, b = b, -(c * b + before) / (n + 1)
    whole = np.array(table)
    whole[:, [0, -1]], whole[0, -1] = 0, 1
    return whole[::-1].astype(dtype)


def _tanh(x: np.ndarray) -> np.ndarray:
    tanh: np.ndarray = np.tanh(ROOT_2_OVER_PI * (x + CUBIC * x * x * x))
    return tanh
