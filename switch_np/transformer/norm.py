"""T5's layer norm: divide by the root mean square, multiply by a learned scale; no mean or bias.

Source: Raffel et al., JMLR 21 (2020), section 2.1; Zhang and Sennrich, RMSNorm (2019).

Forward:   i = 1 / √(mean(x²) + ε),  y = x i ⊙ scale
Backward:  with a = d_y ⊙ scale:  d_x = i (a - x i² · mean(a ⊙ x)),  d_scale = Σ i d_y ⊙ x.
           The second term of d_x is the gradient through i. Both sums read d_y ⊙ x.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class NormCache(NamedTuple):
    """Saved for backward: the input, and the factor that normalizes it."""

    params: Mapping[str, np.ndarray]
    x_BSD: np.ndarray
    inverse_BS1: np.ndarray


def forward(params: Mapping[str, np.ndarray], x_BSD: np.ndarray,
            epsilon: float = 1e-6) -> tuple[np.ndarray, NormCache]:
    """Return y (B, S, D); `params` holds `scale` (D,), `epsilon` is ε.

    >>> forward({"scale": np.ones(2)}, np.array([[[3.0, 4.0]]]))[0].round(3).tolist()
    [[[0.849, 1.131]]]
    """
    mean_BS1 = np.einsum("bsd,bsd->bs", x_BSD, x_BSD)[..., None] * (1 / x_BSD.shape[-1])
    inverse_BS1 = 1 / np.sqrt(mean_BS1 + epsilon)
    return x_BSD * inverse_BS1 * params["scale"], NormCache(params, x_BSD, inverse_BS1)


def backward(d_y_BSD: np.ndarray, cache: NormCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (B, S, D) and the gradient of `scale`."""
    params, x_BSD, inverse_BS1 = cache
    scale, product_BSD = params["scale"], d_y_BSD * x_BSD
    grads = {"scale": inverse_BS1.ravel() @ product_BSD.reshape(-1, len(scale))}
    mean_BS1 = (product_BSD @ scale)[..., None] * (1 / len(scale))           # of a ⊙ x
    d_x_BSD = d_y_BSD * scale
    d_x_BSD -= np.multiply(x_BSD, mean_BS1 * inverse_BS1 ** 2, out=product_BSD)
    d_x_BSD *= inverse_BS1
    return d_x_BSD, grads
