"""Switch for attention: the queries, keys and values of self-attention made by Switch layers.

Source: appendix A of the paper, whose figure 10 has one Switch layer for the queries and another
for the keys and values, which are the same vectors (so in mesh_tensorflow, but with one router for
both). They stand in for W_q, W_k and W_v; scores, softmax and W_o are `attention`'s.

Forward:   q = Switch_q(x),  k = v = Switch_kv(x),  each D = H·A wide and split into H heads
Backward:  keys and values are one array, used twice: d_kv = d_k + d_v. Both layers read x:
           d_x = Switch_qᵀ(d_q) + Switch_kvᵀ(d_kv). The losses reach each layer's own router.

A dropped token gets the layer's 0, and no gradient through its expert. Without a query it attends
by the position bias alone; without a key it is attended to by that bias alone, and adds no value.
There is no residual connection around the projections: the one around attention carries it on.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np import switch_layer
from switch_np.switch.layer import LayerCache

NAMES = ("switch_q", "switch_kv")
Run = Callable[[str, Any, np.ndarray], tuple[np.ndarray, LayerCache]]


class HeadsCache(NamedTuple):
    """Saved for backward: the caches of the two Switch layers."""

    q: LayerCache
    kv: LayerCache


def forward(params: Mapping[str, Any], x_BSD: np.ndarray, num_heads: int,
            run: Run) -> tuple[tuple[np.ndarray, np.ndarray], HeadsCache]:
    """Return q and kv (B, H, S, A); run(name, params[name], x) computes a Switch layer.

    >>> made, _ = forward(dict.fromkeys(NAMES, 3.0), np.ones((1, 2, 4)), 2,
    ...                   lambda name, factor, x: (factor * x, None))
    >>> made[0].shape, made[1][0, 1, 0].tolist()
    ((1, 2, 2, 2), [3.0, 3.0])
    """
    b, s, _ = x_BSD.shape
    made, caches = zip(*(run(name, params[name], x_BSD) for name in NAMES))
    q_BHSA, kv_BHSA = (y.reshape(b, s, num_heads, -1).swapaxes(1, 2) for y in made)
    return (q_BHSA, kv_BHSA), HeadsCache(*caches)


def backward(d_q_BHSA: np.ndarray, d_k_BHSA: np.ndarray, d_v_BHSA: np.ndarray, cache: HeadsCache,
             d_balance_loss: float = 0.0, d_z_loss: float = 0.0, d_probs: np.ndarray | None = None
             ) -> tuple[np.ndarray, dict[str, Any]]:
    """Return d_x (B, S, D) and the gradients of both layers; the losses' as in `block.backward`."""
    (d_x_BSD, q_grads), (more_BSD, kv_grads) = (
        switch_layer.backward(d_BHSA.swapaxes(1, 2).reshape(saved.shape), saved, d_balance_loss,
                              d_z_loss, d_probs=d_probs)
        for d_BHSA, saved in zip((d_q_BHSA, d_k_BHSA + d_v_BHSA), cache))
    return d_x_BSD + more_BSD, dict(zip(NAMES, (q_grads, kv_grads)))
