"""Cross-entropy of the next token, in nats, averaged over the targets that count.

Forward:   L = mean over counted t of (log Σ_v exp logits[t, v] - logits[t, target[t]])
Backward:  d_logits[t, v] = d_L (p[t, v] - δ(v = target[t])) / n for the n tokens that count.
"""

from typing import NamedTuple

import numpy as np

from switch_np.operations import schedule, softmax

IGNORED = -100    # a target that does not count, as in PyTorch


class CrossEntropyCache(NamedTuple):
    """Saved for backward: probabilities, targets, and the number of targets that count."""

    probs_TV: np.ndarray
    targets_T: np.ndarray
    counted: int


def forward(logits_TV: np.ndarray, targets_T: np.ndarray) -> tuple[np.ndarray, CrossEntropyCache]:
    """Return the loss, a scalar; targets of IGNORED do not count.

    >>> float(forward(np.zeros((2, 4)), np.array([3, IGNORED]))[0]) == float(np.log(4))
    True
    """
    probs_TV = np.empty_like(logits_TV)
    log_z_T = np.concatenate(schedule.rows(
        lambda mine: softmax.forward(logits_TV[mine], out=probs_TV[mine])[1], logits_TV.shape))
    counts_T = targets_T != IGNORED
    counted = max(int(counts_T.sum()), 1)
    target_logits_T = logits_TV[np.arange(len(targets_T)), np.where(counts_T, targets_T, 0)]
    loss = ((log_z_T - target_logits_T) * counts_T * (1 / counted)).sum()
    return loss, CrossEntropyCache(probs_TV, targets_T, counted)


def backward(d_loss: float, cache: CrossEntropyCache) -> np.ndarray:
    """Return d_logits (T, V)."""
    probs_TV, targets_T, counted = cache
    counts_T = targets_T != IGNORED
    d_logits_TV = probs_TV.copy()
    d_logits_TV[np.arange(len(targets_T)), np.where(counts_T, targets_T, 0)] -= 1
    d_logits_TV *= (d_loss / counted) * counts_T[:, None].astype(probs_TV.dtype)
    return d_logits_TV
