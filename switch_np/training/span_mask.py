"""Which tokens of a window are dropped: T5's random spans.

Source: Raffel et al. (2020), section 3.3.4, and `random_spans_noise_mask` of their code. A window
of L tokens loses n = round(rate · L) of them in k = round(n / mean span) spans. The n dropped and
the L - n kept tokens are each cut at random into k non-empty pieces, which alternate, beginning
with kept text. So all windows of one length lose equally many tokens, and all such masks are
equally likely.

Hence the first token is never dropped and the last always is, and a single span is the window's
tail. T5's code can roll the mask against this, but by default does not. Halves round to even, as in
T5. At least one token is dropped and one kept; k is at least 1 and, unlike T5's, at most L - n.
"""

from __future__ import annotations

import numpy as np

from switch_np.operations import check
from switch_np.training.vocabulary import SENTINELS

RATE = 0.15           # fraction of tokens dropped, T5's and the Switch paper's
MEAN_SPAN = 3.0


def spans_of(length: int, rate: float = RATE, mean_span: float = MEAN_SPAN) -> tuple[int, int]:
    """Return how many tokens a window of `length` loses, and in how many spans.

    Raises ValueError if a value is out of range, or more spans are needed than there are sentinels.

    >>> spans_of(512), spans_of(64)
    ((77, 26), (10, 3))
    """
    check.integer("length", length, 2)
    check.number("rate", rate, 0, 1)
    check.number("mean_span", mean_span, 1)
    dropped = min(max(round(length * rate), 1), length - 1)
    spans = min(max(round(dropped / mean_span), 1), length - dropped)
    if spans > SENTINELS:
        raise ValueError(f"length must need at most {SENTINELS} spans, the number of sentinels, "
                         f"got {length}, which needs {spans} at rate {rate} and mean_span "
                         f"{mean_span}")
    return dropped, spans


def pieces(rng: np.random.Generator, rows: int, items: int, count: int) -> np.ndarray:
    """Return the lengths (B, P) of `count` non-empty pieces of `items`, cut at random, by row.

    >>> pieces(np.random.default_rng(0), 2, 5, 3).sum(axis=1).tolist()
    [5, 5]
    """
    cut_here = np.tile(np.arange(items - 1) < count - 1, (rows, 1))
    cuts = np.nonzero(rng.permuted(cut_here, axis=1))[1].reshape(rows, count - 1) + 1
    return np.diff(cuts, axis=1, prepend=0, append=items)


def draw(rng: np.random.Generator, rows: int, length: int, rate: float = RATE,
         mean_span: float = MEAN_SPAN) -> np.ndarray:
    """Return (B, L) bool, True where a token is dropped.

    >>> for row in draw(np.random.default_rng(0), 2, 40).astype(int):
    ...     print(*row, sep="")
    0000000000000001111000000000000000000011
    0000000000000000000000000001100000001111
    """
    dropped, spans = spans_of(length, rate, mean_span)
    kept_BP = pieces(rng, rows, length - dropped, spans)
    dropped_BP = pieces(rng, rows, dropped, spans)
    end_BP = (kept_BP + dropped_BP).cumsum(axis=1)
    change = np.zeros((rows, length + 1), np.int8)
    np.put_along_axis(change, end_BP - dropped_BP, 1, axis=1)
    np.put_along_axis(change, end_BP, -1, axis=1)
    return change[:, :-1].cumsum(axis=1) > 0
