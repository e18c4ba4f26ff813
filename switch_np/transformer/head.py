"""The output head: from the last stream to a logit for every token id.

Source: T5 (Raffel et al., JMLR 21, 2020). T5 1.0 uses the embedding's table, and divides the stream
by √D first; T5 1.1 has a matrix of its own.

Forward:   logits = (y / √D) tableᵀ,  or y W_head
Backward:  d_y = d_logits table / √D,   d_table = d_logitsᵀ (y / √D);
           or d_y = d_logits W_headᵀ,   d_W_head = yᵀ d_logits.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import schedule
from switch_np.operations.rounded import cast
from switch_np.transformer import batch_slices


class HeadCache(NamedTuple):
    """Saved for backward: the parameters, and what the product read, divided by √D if tied."""

    params: Mapping[str, Any]
    y_TD: np.ndarray


def forward(params: Mapping[str, Any], y_BSD: np.ndarray) -> tuple[np.ndarray, HeadCache]:
    """Return the logits (B, S, V); `params` are the whole model's.

    >>> tied = {"embedding": {"table": np.array([[1.0] * 4, [2.0] * 4])}}
    >>> forward(tied, np.ones((1, 1, 4)))[0].tolist()
    [[[2.0, 4.0]]]
    """
    b, s, d = y_BSD.shape
    y_TD = y_BSD.reshape(b * s, d)
    if "head" in params:
        weight_DV = params["head"]["w_head"]
    else:
        y_TD, weight_DV = y_TD * d ** -0.5, params["embedding"]["table"].T
    logits = schedule.rows(lambda mine: y_TD[mine] @ weight_DV, (b * s, weight_DV.shape[1]))
    return batch_slices.join(logits).reshape(b, s, -1), HeadCache(params, y_TD)


def backward(d_logits_BSV: np.ndarray, cache: HeadCache
             ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return d_y (B, S, D), d_table (V, D), which is 0 if not tied, and the head's own gradient."""
    params, y_TD = cache
    (b, s, v), table_VD = d_logits_BSV.shape, params["embedding"]["table"]
    d_logits_TV = cast(d_logits_BSV.reshape(b * s, v), like=y_TD)
    grads: dict[str, Any] = {}
    if "head" in params:
        d_y_TD = d_logits_TV @ params["head"]["w_head"].T
        d_table_VD = np.zeros(table_VD.shape, d_y_TD.dtype)
        grads["head"] = {"w_head": y_TD.T @ d_logits_TV}
    else:
        d_y_TD, d_table_VD = schedule.together(
            lambda: d_logits_TV @ table_VD * y_TD.shape[1] ** -0.5,
            lambda: d_logits_TV.T @ y_TD, size=d_logits_TV.size)
    return d_y_TD.reshape(b, s, -1), d_table_VD, grads
