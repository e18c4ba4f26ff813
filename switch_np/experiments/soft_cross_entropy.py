"""Cross-entropy against probabilities in place of one right token, in nats: for distillation.

Source: section 4.2 of the paper: 0.75 of the loss for the right token and 0.25 for the teacher's
probabilities, which is one loss whose target q is 0.75 at the right token plus 0.25 times those.

Forward:   L = mean over t of Σ_v q[t, v] (log Σ_u exp logits[t, u] - logits[t, v])
Backward:  d_logits[t, v] = d_L (p[t, v] Σ_u q[t, u] - q[t, v]) / T, p the softmax of the logits.
           q comes from outside and is not differentiated.
"""

from typing import NamedTuple

import numpy as np

from switch_np.operations import softmax


class SoftCrossEntropyCache(NamedTuple):
    """Saved for backward: probabilities and targets."""

    probs_TV: np.ndarray
    target_TV: np.ndarray


def forward(logits_TV: np.ndarray,
            target_TV: np.ndarray) -> tuple[np.ndarray, SoftCrossEntropyCache]:
    """Return the loss, a scalar.

    >>> loss, cache = forward(np.zeros((2, 4)), np.full((2, 4), 0.25))
    >>> bool(abs(loss - np.log(4)) < 1e-15)
    True
    """
    probs_TV, log_z_T = softmax.forward(logits_TV)
    loss = (target_TV * (log_z_T[:, None] - logits_TV)).sum() * (1 / len(logits_TV))
    return loss, SoftCrossEntropyCache(probs_TV, target_TV)


def backward(d_loss: float, cache: SoftCrossEntropyCache) -> np.ndarray:
    """Return d_logits (T, V)."""
    probs_TV, target_TV = cache
    d_logits_TV: np.ndarray = probs_TV * target_TV.sum(axis=1, keepdims=True)
    d_logits_TV -= target_TV
    d_logits_TV *= d_loss / len(probs_TV)
    return d_logits_TV


def mixed_targets(targets_T: np.ndarray, teacher_TV: np.ndarray, weight: float) -> np.ndarray:
    """Return q (T, V): `weight` on the teacher's probabilities, the rest on the right token.

    >>> mixed_targets(np.array([1]), np.array([[0.5, 0.5]]), 0.25).tolist()
    [[0.125, 0.875]]
    """
    q_TV = teacher_TV * weight
    q_TV[np.arange(len(targets_T)), targets_T] += 1 - weight
    return q_TV
