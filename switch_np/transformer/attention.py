"""Multi-head attention, from S queries to M keys and values.

Source: T5 (Raffel et al., JMLR 21, 2020): no biases in the projections, relative positions added to
the scores, which are not divided by √A. In self-attention the memory is the input itself, in
cross-attention the encoder's output.

Forward:   q = x W_q,  k = m W_k,  v = m W_v,  per head  P = softmax(q kᵀ + bias),  P' = dropout(P),
           y = (P' v over all heads) W_o
Backward:  d_W_o = contextᵀ d_y,  d_context = d_y W_oᵀ;  per head  d_P' = d_context vᵀ,
           d_v = P'ᵀ d_context,  d_scores = P ⊙ (d_P - Σ_m P d_P),  d_q = d_scores k,
           d_k = d_scoresᵀ q;  d_bias = Σ_b d_scores;  then d_x = d_q W_qᵀ,
           d_m = d_k W_kᵀ + d_v W_vᵀ, and d_W = inputᵀ d_output for each of the three.
Masked positions have P = 0 exactly, and so no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import dropout, softmax
from switch_np.operations.rounded import Float16
from switch_np.transformer import batch_slices

MASKED = -1e30    # finite, so that a row in which all is masked stays a number
FLOAT16_LOWEST = -65504.0      # in float16 MASKED is -inf, and this the least that is finite
KeysAndValues = tuple[np.ndarray, np.ndarray]


class AttentionCache(NamedTuple):
    """Saved for backward: inputs, heads and probabilities; the scores are not needed again."""

    params: Mapping[str, np.ndarray]
    x_BSD: np.ndarray
    memory_BMD: np.ndarray | None
    q_BHSA: np.ndarray
    k_BHMA: np.ndarray
    v_BHMA: np.ndarray
    probs_BHSM: np.ndarray
    context_BSHA: np.ndarray
    keep_BHSM: np.ndarray | None
    rate: float


def causal_mask(queries: int, keys: int, seen: int = 0) -> np.ndarray:
    """Return (S, M): 0 where a query may look, MASKED where the key lies ahead of it.

    The first query stands at position `seen`.

    >>> (causal_mask(2, 2) == 0).tolist()
    [[True, False], [True, True]]
    """
    ahead = np.arange(keys) > np.arange(seen, seen + queries)[:, None]
    return np.where(ahead, MASKED, 0.0)


def forward(params: Mapping[str, np.ndarray], x_BSD: np.ndarray, memory: np.ndarray | None,
            bias: np.ndarray, padding_BM: np.ndarray | None = None,
            keep_BHSM: np.ndarray | None = None, rate: float = 0.0,
            past: KeysAndValues | None = None) -> tuple[np.ndarray, AttentionCache]:
    """Return y (B, S, D): queries of x look at keys and values of the memory.

    Parameters
    ----------
    params
        `w_q`, `w_k`, `w_v` (D, H*A) and `w_o` (H*A, D).
    x_BSD, memory
        Where the queries come from, and the keys and values, (B, M, D): x itself in self-attention.
        With `past`, the memory holds the new tokens only, or is None.
    bias
        (H, S, M) or (H, 1, 1), added to the scores; MASKED where a query may not look.
    padding_BM
        Bool, True where a key is padding and must not be looked at.
    keep_BHSM, rate
        Mask and rate of dropout on the probabilities.
    past
        In generation, which has no backward: keys and values (B, H, M, A) of the tokens before
        these. Those of the memory, if there is one, come after them.
    """
    q_BHSA = _split(x_BSD, params["w_q"], len(bias))
    k_BHMA, v_BHMA = _keys_and_values(params, memory, len(bias), past)
    scores_BHSM = q_BHSA @ k_BHMA.swapaxes(2, 3) + bias
    if padding_BM is not None:
        scores_BHSM += np.where(padding_BM, MASKED, 0).astype(bias.real.dtype)[:, None, None]
        # Masked twice is masked once: where all is masked, all is equal, as in transformers.
        lowest = FLOAT16_LOWEST if isinstance(scores_BHSM, Float16) else MASKED
        np.maximum(scores_BHSM.real, lowest, out=scores_BHSM.real)
    probs_BHSM, _ = softmax.forward(scores_BHSM, out=scores_BHSM)
    context_BHSA = dropout.forward(probs_BHSM, keep_BHSM, rate) @ v_BHMA
    context_BSHA = context_BHSA.swapaxes(1, 2).copy()
    y_TD = _flat(context_BSHA) @ params["w_o"]
    cache = AttentionCache(params, x_BSD, memory if past is None else None, q_BHSA, k_BHMA, v_BHMA,
                           probs_BHSM, context_BSHA, keep_BHSM, rate)
    return y_TD.reshape(x_BSD.shape), cache


def backward(d_y_BSD: np.ndarray, cache: AttentionCache
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (B, S, D), d_memory (B, M, D), d_bias (H, S, M) and the parameters' gradients."""
    params, q_BHSA, k_BHMA, v_BHMA = cache.params, cache.q_BHSA, cache.k_BHMA, cache.v_BHMA
    probs_BHSM, memory_BMD = cache.probs_BHSM, cache.memory_BMD
    assert memory_BMD is not None, "a step of generation has no backward"
    d_y_TD = d_y_BSD.reshape(-1, d_y_BSD.shape[-1])
    d_w_o = _flat(cache.context_BSHA).T @ d_y_TD
    d_context_BHSA = (d_y_TD @ params["w_o"].T).reshape(cache.context_BSHA.shape).swapaxes(1, 2)
    d_scores_BHSM = dropout.backward(
        d_context_BHSA @ v_BHMA.swapaxes(2, 3), cache.keep_BHSM, cache.rate)
    d_scores_BHSM -= np.einsum("bhsm,bhsm->bhs", d_scores_BHSM, probs_BHSM)[..., None]
    d_scores_BHSM *= probs_BHSM
    dropped_BHSM = dropout.forward(probs_BHSM, cache.keep_BHSM, cache.rate)
    d_v_BHMA = dropped_BHSM.swapaxes(2, 3) @ d_context_BHSA
    d_x_BSD, d_w_q = _merge(d_scores_BHSM @ k_BHMA, cache.x_BSD, params["w_q"])
    d_k_BMD, d_w_k = _merge(d_scores_BHSM.swapaxes(2, 3) @ q_BHSA, memory_BMD, params["w_k"])
    d_v_BMD, d_w_v = _merge(d_v_BHMA, memory_BMD, params["w_v"])
    grads = {"w_q": d_w_q, "w_k": d_w_k, "w_v": d_w_v, "w_o": d_w_o}
    return d_x_BSD, d_k_BMD + d_v_BMD, d_scores_BHSM.sum(axis=0), grads


def _keys_and_values(params: Mapping[str, np.ndarray], memory: np.ndarray | None, heads: int,
                     past: KeysAndValues | None) -> KeysAndValues:
    """Return the keys and values of the past, then those of the memory."""
    found = [] if past is None else [past]
    if memory is not None:
        found.append((_split(memory, params["w_k"], heads),
                      _split(memory, params["w_v"], heads)))
    keys, values = zip(*found)
    return batch_slices.join(keys, axis=2), batch_slices.join(values, axis=2)


def _split(x_BSD: np.ndarray, weight: np.ndarray, heads: int) -> np.ndarray:
    """Return x W as heads (B, H, S, A), a view of (B, S, H*A)."""
    b, s, d = x_BSD.shape
    product: np.ndarray = x_BSD.reshape(b * s, d) @ weight
    return product.reshape(b, s, heads, -1).swapaxes(1, 2)


def _merge(d_heads_BHSA: np.ndarray, x_BSD: np.ndarray,
           weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return d_x and d_W for heads = split(x W)."""
    d_product = _flat(d_heads_BHSA.swapaxes(1, 2))
    d_weight = x_BSD.reshape(-1, len(weight)).T @ d_product
    return (d_product @ weight.T).reshape(x_BSD.shape), d_weight


def _flat(heads_BSHA: np.ndarray) -> np.ndarray:
    """Return (B*S, H*A)."""
    b, s, h, a = heads_BSHA.shape
    return heads_BSHA.reshape(b * s, h * a)
