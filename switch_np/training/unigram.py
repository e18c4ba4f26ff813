"""A baseline that knows no context: how often each id is a target, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from switch_np.operations import check
from switch_np.training.vocabulary import VOCAB_SIZE
from switch_np.transformer.batch import Batch
from switch_np.transformer.cross_entropy import IGNORED


def neg_log_perplexity(train: Iterable[Batch], held_out: Iterable[Batch],
                       smoothing: float = 0.1) -> float:
    """Return the mean log-probability of a held-out target under the training targets' shares.

    P(v) = (count(v) + smoothing) / (count + V smoothing). In nats per target that counts, so 0 is
    perfect and less is worse: the Switch paper's measure. The default smoothing is close to its
    best for missing spans of the built-in text.

    Examples
    --------
    >>> even = [Batch(inputs=np.zeros((1, 2), int), targets=np.array([[7, 8]]))] * 1000
    >>> round(neg_log_perplexity(even, even, smoothing=0.0), 4)        # -log 2
    -0.6931
    """
    check.number("smoothing", smoothing, 0)
    train_V, held_out_V = _counts(train), _counts(held_out)
    smooth_V = train_V + smoothing
    with np.errstate(divide="ignore"):       # without smoothing an unseen id has no chance
        log_probs_V = np.log(smooth_V / smooth_V.sum())
    seen_V = held_out_V > 0
    return float((held_out_V[seen_V] * log_probs_V[seen_V]).sum() / held_out_V.sum())


def _counts(batches: Iterable[Batch]) -> np.ndarray:
    counts_V = np.zeros(VOCAB_SIZE)
    for batch in batches:
        counts_V += np.bincount(batch.targets[batch.targets != IGNORED], minlength=VOCAB_SIZE)
    if not counts_V.any():
        raise ValueError("batches must hold at least one target that counts, got none")
    return counts_V
