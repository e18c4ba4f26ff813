"""T5's relative positions: a learned bias per head and per bucket of distance, added to the scores.

Source: Raffel et al., JMLR 21 (2020), section 2.1. Half of the buckets hold one distance each, the
other half widen logarithmically up to `max_distance`, and the last takes all beyond. With
`bidirectional` half of the buckets look ahead.

Forward:   bias[h, s, m] = table[bucket(m - s), h]
Backward:  d_table[b, h] = Σ d_bias[h, s, m] over the pairs in bucket b: first along the diagonals
           of equal m - s, then over the distances of each bucket.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class BiasCache(NamedTuple):
    """Saved for backward: the bucket of each distance m - s, in ascending order; their number."""

    buckets: np.ndarray
    num_buckets: int


def bucket(distance: np.ndarray, num_buckets: int, max_distance: int,
           bidirectional: bool = False) -> np.ndarray:
    """Return the bucket of each distance m - s, from the query to the position attended to.

    >>> bucket(np.array([0, -1, -2, -3, -5, -9, -99, 4]), 4, 8).tolist()
    [0, 1, 2, 2, 3, 3, 3, 0]
    """
    if bidirectional:
        num_buckets //= 2
        first, back = np.where(distance > 0, num_buckets, 0), abs(distance)
    else:
        first, back = np.zeros_like(distance), np.maximum(-distance, 0)
    exact = num_buckets // 2
    # float32, as in T5: the floor of the logarithm falls elsewhere in float64 at a few distances.
    ratio = np.log(np.maximum(back, 1).astype(np.float32) / exact) / math.log(max_distance / exact)
    wide = exact + (ratio * (num_buckets - exact)).astype(int)
    return first + np.where(back < exact, back, np.minimum(wide, num_buckets - 1))


def forward(params: Mapping[str, np.ndarray], queries: int, keys: int, max_distance: int,
            bidirectional: bool = False, seen: int = 0) -> tuple[np.ndarray, BiasCache]:
    """Return the bias (H, S, M) of S queries, the first at position `seen`, and M keys from 0 on.

    `params` holds `table` (buckets, H).

    >>> table = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> forward({"table": table}, 3, 3, max_distance=8)[0][0].tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 1.0, 0.0]]
    """
    table = params["table"]
    buckets, bucket_SM = _buckets(queries, keys, len(table), max_distance, bidirectional, seen)
    return table.T[:, bucket_SM], BiasCache(buckets, len(table))


@lru_cache(4)                                             # every step asks
def _buckets(queries: int, keys: int, num_buckets: int, max_distance: int, bidirectional: bool,
             seen: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bucket of each distance, in ascending order, and of each query and key (S, M)."""
    farthest = seen + queries - 1
    buckets = bucket(np.arange(-farthest, keys - seen), num_buckets, max_distance, bidirectional)
    distance_SM = np.arange(keys) - np.arange(seen, seen + queries)[:, None] + farthest
    return buckets, buckets[distance_SM]


def backward(d_bias_HSM: np.ndarray, cache: BiasCache) -> dict[str, np.ndarray]:
    """Return the gradient of `table`."""
    h, s, m = d_bias_HSM.shape
    # Reading rows of length S + M as rows of S + M - 1 shifts each row one column further: with the
    # queries reversed, each distance then has a column of its own.
    sheared = np.zeros_like(d_bias_HSM, shape=(h, s, s + m))
    sheared[:, :, :m] = d_bias_HSM[:, ::-1]
    sheared = sheared.reshape(h, -1)[:, :s * (s + m - 1)].reshape(h, s, s + m - 1)
    in_bucket = cache.buckets[:, None] == np.arange(cache.num_buckets)
    return {"table": in_bucket.astype(d_bias_HSM.dtype).T @ sheared.sum(axis=1).T}
