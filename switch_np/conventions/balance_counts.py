"""What the load-balancing loss counts under other libraries' conventions.

Source: the libraries named in `table`. Each loss is a mean over groups of E · Σ_e f_e P_e; they
differ in the choices that f counts, the tokens that P averages, and the divisors.

The plan holds f as `balance_count` over `balance_tokens`. P gets a weight per token, and then the
paper's loss computes them all: P_e = Σ_t weight_t p_t,e / tokens.
"""

import numpy as np

from switch_np.conventions.table import Conventions


def counts(expert_TK: np.ndarray, kept_TK: np.ndarray, plain_TK: np.ndarray, group_T: np.ndarray,
           shape: tuple[int, int], padding_T: np.ndarray | None, conventions: Conventions,
           training: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the choices that f counts (G, E), and the tokens to divide them by (G,).

    `plain_TK` are the experts with the K best scores, without bias, groups and noise; `shape` is
    (G, E).

    >>> chosen, kept = np.array([[0], [1], [1]]), np.array([[True], [True], [False]])
    >>> theirs = Conventions(balance_drops="post_as_0")
    >>> counts(chosen, kept, chosen, np.zeros(3, int), (1, 2), None, theirs, True)[0].tolist()
    [[2, 1]]
    """
    g, e = shape
    real_T = np.ones(len(group_T), bool) if padding_T is None else ~padding_T
    valid = conventions.balance_padding == "mask_valid"
    tokens_G = np.bincount(group_T[real_T] if valid else group_T, minlength=g)
    if conventions.balance_counts == "none" or (
            conventions.balance_when == "training" and not training):
        return np.zeros(shape, int), tokens_G
    chosen_TK = plain_TK if conventions.balance_counts == "plain_over_k" else expert_TK
    counted_TK = np.ones(kept_TK.shape, bool)
    if conventions.balance_drops == "post":
        counted_TK = kept_TK
    elif conventions.balance_drops == "post_as_0":
        chosen_TK = np.where(kept_TK, chosen_TK, 0)
    if conventions.balance_padding not in ("include", "mask_p", "real_fraction"):
        counted_TK = counted_TK & real_T[:, None]
    k = 1 if conventions.balance_counts == "first" else expert_TK.shape[1]
    bins = (group_T[:, None] * e + chosen_TK)[:, :k][counted_TK[:, :k]]
    return np.bincount(bins, minlength=g * e).reshape(g, e), tokens_G


def weights(group_T: np.ndarray, num_groups: int, k: int, padding_T: np.ndarray | None,
            conventions: Conventions) -> np.ndarray:
    """Return each token's weight (T,) in P, which also divides by K where f counts over K.

    >>> padding = np.array([False, True])
    >>> for where in "mask_full", "include", "real_fraction":
    ...     weights(np.array([0, 0]), 1, 1, padding, Conventions(balance_padding=where)).tolist()
    [1.0, 0.0]
    [1.0, 1.0]
    [0.5, 0.5]
    """
    weights_T = np.ones(len(group_T))
    if padding_T is not None:
        if conventions.balance_padding in ("mask_valid", "mask_full", "mask_p"):
            weights_T[padding_T] = 0
        elif conventions.balance_padding == "real_fraction":
            tokens_G = np.bincount(group_T, minlength=num_groups)
            real_G = np.bincount(group_T[~padding_T], minlength=num_groups)
            weights_T = (real_G / np.maximum(tokens_G, 1))[group_T]
    if conventions.balance_counts in ("all_over_k", "plain_over_k"):
        weights_T = weights_T / k
    return weights_T
