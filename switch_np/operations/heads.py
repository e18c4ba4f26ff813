"""Heads of attention: projections of one input as one product, with their weights side by side.

Forward:   (q k v) = x (W_q W_k W_v), each of them split into heads (B, H, S, A)
Backward:  d_x = (d_q d_k d_v) (W_q W_k W_v)ᵀ,   (d_W_q d_W_k d_W_v) = xᵀ (d_q d_k d_v). Each d_head
           is itself a product, which is written to where it belongs.
"""

from collections.abc import Iterable, Mapping

import numpy as np


def split(params: Mapping[str, np.ndarray], names: str, x_BSD: np.ndarray,
          heads: int) -> list[np.ndarray]:
    """Return x W as heads (B, H, S, A) for `w_q` of the name "q" and so on; views of one array.

    >>> params = {"w_k": np.eye(2), "w_v": 2 * np.eye(2)}
    >>> [each[0, :, 0, 0].tolist() for each in split(params, "kv", np.array([[[3.0, 4.0]]]), 2)]
    [[3.0, 4.0], [6.0, 8.0]]
    """
    b, s, d = x_BSD.shape
    product = x_BSD.reshape(b * s, d) @ _side_by_side(params, names)
    return [*product.reshape(b, s, len(names), heads, -1).transpose(2, 0, 3, 1, 4)]


def merge(params: Mapping[str, np.ndarray], x_BSD: np.ndarray,
          products: Mapping[str, tuple[np.ndarray, np.ndarray]]
          ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x and each d_W where the d_head of a name is the product of two arrays."""
    (b, s, d), (left, right) = x_BSD.shape, list(products.values())[-1]
    n, h, a = len(products), right.shape[1], right.shape[3]
    d_heads = np.empty_like(left, np.result_type(left, right), shape=(b, s, n, h, a))
    for out, (left, right) in zip(d_heads.transpose(2, 0, 3, 1, 4), products.values()):
        np.matmul(left, right, out=out)
    d_product = d_heads.reshape(b * s, n * h * a)
    d_weight = x_BSD.reshape(b * s, d).T @ d_product
    d_x_TD = d_product @ _side_by_side(params, products).T
    parts = d_weight.reshape(d, n, h * a).swapaxes(0, 1)
    return d_x_TD.reshape(b, s, d), {f"w_{name}": part for name, part in zip(products, parts)}


def flat(heads_BSHA: np.ndarray) -> np.ndarray:
    """Return (B*S, H*A)."""
    b, s, h, a = heads_BSHA.shape
    return heads_BSHA.reshape(b * s, h * a)


def _side_by_side(params: Mapping[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    weights = [params[f"w_{name}"] for name in names]
    return weights[0] if len(weights) == 1 else np.concatenate(weights, axis=1)
