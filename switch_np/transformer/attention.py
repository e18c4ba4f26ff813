"""Multi-head attention, from S queries to M keys and values.

Source: T5 (Raffel et al., JMLR 21, 2020): no biases in the projections, relative positions added to
the scores, which are not divided by √A. In self-attention the memory is the input itself.

Forward:   q = x W_q,  k = m W_k,  v = m W_v,  per head  P = softmax(q kᵀ + bias),  P' = dropout(P),
           y = (P' v over all heads) W_o
Backward:  d_W_o = contextᵀ d_y,  d_context = d_y W_oᵀ;  per head  d_P' = d_context vᵀ,
           d_v = P'ᵀ d_context,  d_scores = P ⊙ (d_P - Σ_m P d_P),  d_q = d_scores k,
           d_k = d_scoresᵀ q;  d_bias = Σ_b d_scores;  then d_x = d_q W_qᵀ,
           d_m = d_k W_kᵀ + d_v W_vᵀ, and d_W = inputᵀ d_output for each of the three.
Masked positions have P = 0 exactly, and so no gradient. `heads` makes one product of each input:
where the memory is x itself, d_x is the gradient through both, and d_memory None.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from switch_np.operations import dropout, heads, softmax
from switch_np.operations.rounded import Float16
from switch_np.transformer.batch_slices import KeysAndValues, join_pairs

MASKED = -1e30    # finite, so that a row in which all is masked stays a number
FLOAT16_LOWEST = -65504.0      # in float16 MASKED is -inf, and this the least that is finite
Products = tuple[np.ndarray, np.ndarray]


class AttentionCache(NamedTuple):
    """Saved for backward; the scores are not needed again."""

    params: Mapping[str, np.ndarray]
    x_BSD: np.ndarray | None             # None of `attend`
    memory_BMD: np.ndarray | None
    q_BHSA: np.ndarray
    k_BHMA: np.ndarray
    v_BHMA: np.ndarray
    probs_BHSM: np.ndarray
    context_BSHA: np.ndarray
    keep_BHSM: np.ndarray | None
    rate: float


def causal_mask(queries: int, keys: int, seen: int = 0) -> np.ndarray:
    """Return (S, M): 0 where a query, the first at `seen`, may look; MASKED where the key is ahead.

    >>> (causal_mask(2, 2) == 0).tolist()
    [[True, False], [True, True]]
    """
    ahead = np.arange(keys) > np.arange(seen, seen + queries)[:, None]
    return np.where(ahead, MASKED, 0.0)


def forward(params: Mapping[str, np.ndarray], x_BSD: np.ndarray, memory: np.ndarray | None,
            bias: np.ndarray, padding_BM: np.ndarray | None = None,
            keep_BHSM: np.ndarray | None = None, rate: float = 0.0,
            past: KeysAndValues | None = None) -> tuple[np.ndarray, AttentionCache]:
    """Return y (B, S, D): queries of x look at keys and values of the memory (B, M, D).

    `bias` (H, S, M) or (H, 1, 1) is added to the scores, MASKED where a query may not look;
    `padding_BM` is True where a key is padding; `keep_BHSM` and `rate` are for dropout on the
    probabilities. In generation, which has no backward, `past` holds keys and values (B, H, M, A)
    of the tokens before those of the memory, which may be None.
    """
    if memory is x_BSD:
        q_BHSA, *pair = heads.split(params, "qkv", x_BSD, len(bias))
    else:
        (q_BHSA,) = heads.split(params, "q", x_BSD, len(bias))
        pair = [] if memory is None else heads.split(params, "kv", memory, len(bias))
    y_BSD, cache = attend(params, q_BHSA, pair, bias, padding_BM, keep_BHSM, rate, past)
    return y_BSD, cache._replace(x_BSD=x_BSD, memory_BMD=memory if past is None else None)


def attend(params: Mapping[str, np.ndarray], q_BHSA: np.ndarray, pair: Sequence[np.ndarray],
           bias: np.ndarray, padding_BM: np.ndarray | None = None,
           keep_BHSM: np.ndarray | None = None, rate: float = 0.0,
           past: KeysAndValues | None = None) -> tuple[np.ndarray, AttentionCache]:
    """Return what `forward` does, of queries, and of a pair of keys and values or of none."""
    k_BHMA, v_BHMA = join_pairs([each for each in (past, pair) if each], axis=2)
    probs_BHSM = softmax.of(lambda: _scores(q_BHSA, k_BHMA, bias, padding_BM))
    context_BHSA = dropout.forward(probs_BHSM, keep_BHSM, rate) @ v_BHMA
    context_BSHA = context_BHSA.swapaxes(1, 2).copy()
    y_TD = heads.flat(context_BSHA) @ params["w_o"]
    b, s = context_BSHA.shape[:2]
    return y_TD.reshape(b, s, y_TD.shape[1]), AttentionCache(
        params, None, None, q_BHSA, k_BHMA, v_BHMA, probs_BHSM, context_BSHA, keep_BHSM, rate)


def backward(d_y_BSD: np.ndarray, cache: AttentionCache
             ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (B, S, D), d_memory (B, M, D), d_bias (H, S, M) and the parameters' gradients."""
    params, x_BSD, memory_BMD, *_ = cache
    assert x_BSD is not None and memory_BMD is not None, "a step of generation has no backward"
    products, d_bias_HSM, grads = attend_backward(d_y_BSD, cache)
    d_memory_BMD, of_x = None, products
    if memory_BMD is not x_BSD:
        of_x = {"q": products.pop("q")}
        d_memory_BMD, more = heads.merge(params, memory_BMD, products)
        grads |= more
    d_x_BSD, more = heads.merge(params, x_BSD, of_x)
    return d_x_BSD, d_memory_BMD, d_bias_HSM, grads | more


def attend_backward(d_y_BSD: np.ndarray, cache: AttentionCache
                    ) -> tuple[dict[str, Products], np.ndarray, dict[str, np.ndarray]]:
    """Return whose products d_q, d_k and d_v are, d_bias (H, S, M), and the gradient of W_o."""
    params, _, _, q_BHSA, k_BHMA, v_BHMA, probs_BHSM, context_BSHA, keep_BHSM, rate = cache
    d_y_TD = d_y_BSD.reshape(-1, d_y_BSD.shape[-1])
    d_w_o = heads.flat(context_BSHA).T @ d_y_TD
    d_context_BHSA = (d_y_TD @ params["w_o"].T).reshape(context_BSHA.shape).swapaxes(1, 2)
    d_scores_BHSM = dropout.backward(d_context_BHSA @ v_BHMA.swapaxes(2, 3), keep_BHSM, rate)
    d_scores_BHSM -= np.einsum("bhsm,bhsm->bhs", d_scores_BHSM, probs_BHSM)[..., None]
    d_scores_BHSM *= probs_BHSM
    dropped_BHSM = dropout.forward(probs_BHSM, keep_BHSM, rate)
    products = {"q": (d_scores_BHSM, k_BHMA), "k": (d_scores_BHSM.swapaxes(2, 3), q_BHSA),
                "v": (dropped_BHSM.swapaxes(2, 3), d_context_BHSA)}
    return products, d_scores_BHSM.sum(axis=0), {"w_o": d_w_o}


def _scores(q_BHSA: np.ndarray, k_BHMA: np.ndarray, bias: np.ndarray,
            padding_BM: np.ndarray | None) -> np.ndarray:
    """Return the scores (B, H, S, M), fresh."""
    scores_BHSM: np.ndarray = q_BHSA @ k_BHMA.swapaxes(2, 3)
    in_place = scores_BHSM if scores_BHSM.dtype == bias.dtype else None      # one may be complex
    scores_BHSM = np.add(scores_BHSM, bias, out=in_place)
    if padding_BM is not None:
        scores_BHSM += np.where(padding_BM, MASKED, 0).astype(bias.real.dtype)[:, None, None]
        # Masked twice is masked once: where all is masked, all is equal, as in transformers.
        lowest = FLOAT16_LOWEST if isinstance(scores_BHSM, Float16) else MASKED
        np.maximum(scores_BHSM.real, lowest, out=scores_BHSM.real)
    return scores_BHSM
