"""Multi-head attention, from S queries to M keys and values.

Source: T5 (Raffel et al., JMLR 21, 2020): no biases in the projections, relative positions added to
the scores, which are not divided by √A. In self-attention the memory is the input itself.

Forward:   q = x W_q,  k = m W_k,  v = m W_v,  per head  P = softmax(q kᵀ + bias),  P' = dropout(P),
           y = (P' v over all heads) W_o
Backward:  d_W_o = contextᵀ d_y,  d_context = d_y W_oᵀ;  per head  d_P' = d_context vᵀ,
           d_v = P'ᵀ d_context,  d_scores = P ⊙ (d_P - Σ_m P d_P),  d_q = d_scores k,
           d_k = d_scoresᵀ q;  d_bias = Σ_b d_scores;  then d_x = d_q W_qᵀ,
           d_m = d_k W_kᵀ + d_v W_vᵀ, and d_W = inputᵀ d_output for each of the three.
Masked positions have P = 0 exactly, and so no gradient. The weights of one input are one matrix,
side by side: W_q, W_k and W_v in self-attention.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from switch_np.operations import dropout, softmax
from switch_np.operations.rounded import Float16
from switch_np.transformer.batch_slices import KeysAndValues, join, join_pairs

MASKED = -1e30    # finite, so that a row in which all is masked stays a number
FLOAT16_LOWEST = -65504.0      # in float16 MASKED is -inf, and this the least that is finite


class AttentionCache(NamedTuple):
    """Saved for backward; the scores are not needed again."""

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
    heads, pair = len(bias), []
    if memory is x_BSD:
        q_BHSA, *pair = _split(params, "qkv", x_BSD, heads)
    else:
        (q_BHSA,) = _split(params, "q", x_BSD, heads)
        pair = [] if memory is None else _split(params, "kv", memory, heads)
    k_BHMA, v_BHMA = join_pairs([each for each in (past, pair) if each], axis=2)
    probs_BHSM = softmax.of(lambda: _scores(q_BHSA, k_BHMA, bias, padding_BM))
    context_BHSA = dropout.forward(probs_BHSM, keep_BHSM, rate) @ v_BHMA
    context_BSHA = context_BHSA.swapaxes(1, 2).copy()
    y_TD = _flat(context_BSHA) @ params["w_o"]
    cache = AttentionCache(params, x_BSD, memory if past is None else None, q_BHSA, k_BHMA, v_BHMA,
                           probs_BHSM, context_BSHA, keep_BHSM, rate)
    return y_TD.reshape(x_BSD.shape), cache


def backward(d_y_BSD: np.ndarray, cache: AttentionCache
             ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, dict[str, np.ndarray]]:
    """Return d_x (B, S, D), d_memory (B, M, D), d_bias (H, S, M) and the parameters' gradients.

    Where the memory was x itself, d_x is the gradient through both, and d_memory None.
    """
    (params, x_BSD, memory_BMD, q_BHSA, k_BHMA, v_BHMA, probs_BHSM, context_BSHA, keep_BHSM,
     rate) = cache
    assert memory_BMD is not None, "a step of generation has no backward"
    d_y_TD = d_y_BSD.reshape(-1, d_y_BSD.shape[-1])
    d_w_o = _flat(context_BSHA).T @ d_y_TD
    d_context_BHSA = (d_y_TD @ params["w_o"].T).reshape(context_BSHA.shape).swapaxes(1, 2)
    d_scores_BHSM = dropout.backward(d_context_BHSA @ v_BHMA.swapaxes(2, 3), keep_BHSM, rate)
    d_scores_BHSM -= np.einsum("bhsm,bhsm->bhs", d_scores_BHSM, probs_BHSM)[..., None]
    d_scores_BHSM *= probs_BHSM
    dropped_BHSM = dropout.forward(probs_BHSM, keep_BHSM, rate)
    products = {"q": (d_scores_BHSM, k_BHMA), "k": (d_scores_BHSM.swapaxes(2, 3), q_BHSA),
                "v": (dropped_BHSM.swapaxes(2, 3), d_context_BHSA)}
    grads: dict[str, np.ndarray] = {}
    d_memory_BMD = None
    if memory_BMD is not x_BSD:
        queries = {"q": products.pop("q")}
        d_memory_BMD, grads = _merge(params, memory_BMD, products)
        products = queries
    d_x_BSD, more = _merge(params, x_BSD, products)
    return d_x_BSD, d_memory_BMD, d_scores_BHSM.sum(axis=0), grads | more | {"w_o": d_w_o}


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


def _side_by_side(params: Mapping[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """Return the weights of these names as one matrix."""
    return join([params[f"w_{name}"] for name in names], axis=1)


def _split(params: Mapping[str, np.ndarray], names: str, x_BSD: np.ndarray,
           heads: int) -> list[np.ndarray]:
    """Return x W as heads (B, H, S, A) for each of the weights; all are views of one array."""
    b, s, d = x_BSD.shape
    product = x_BSD.reshape(b * s, d) @ _side_by_side(params, names)
    return [*product.reshape(b, s, len(names), heads, -1).transpose(2, 0, 3, 1, 4)]


def _merge(params: Mapping[str, np.ndarray], x_BSD: np.ndarray,
           products: Mapping[str, tuple[np.ndarray, np.ndarray]]
           ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x and each d_W for heads = split(x W), where d_heads = left @ right."""
    (b, s, d), (left, right) = x_BSD.shape, products["v" if "v" in products else "q"]
    n, h, a = len(products), right.shape[1], right.shape[3]
    d_heads = np.empty_like(left, np.result_type(left, right), shape=(b, s, n, h, a))
    for out, (left, right) in zip(d_heads.transpose(2, 0, 3, 1, 4), products.values()):
        np.matmul(left, right, out=out)
    d_product = d_heads.reshape(b * s, n * h * a)
    d_weight = x_BSD.reshape(b * s, d).T @ d_product
    d_x_TD = d_product @ _side_by_side(params, products).T
    parts = d_weight.reshape(d, n, h * a).swapaxes(0, 1)
    return d_x_TD.reshape(b, s, d), {f"w_{name}": part for name, part in zip(products, parts)}


def _flat(heads_BSHA: np.ndarray) -> np.ndarray:
    """Return (B*S, H*A)."""
    b, s, h, a = heads_BSHA.shape
    return heads_BSHA.reshape(b * s, h * a)
