"""The task "span", T5's pre-training: the model reads text with spans missing and writes the spans.

Source: Raffel et al. (2020), sections 3.1.4 and 3.3.4, and their code; section 2 of the Switch
paper trains on it.

    text      Thank you for inviting me to your party last week
    source    Thank you <0> me to your party <1> week END
    targets   <0> for inviting <1> last END
    inputs    PAD <0> for inviting <1> last

A sentinel replaces each dropped span in the source and each kept one in the targets. So does T5's
code; figure 2 of its paper ends the targets with one more sentinel.

A window of L tokens loses n = round(rate · L) of them, at least one, in k = round(n / mean span)
spans, at least one and, unlike T5's, at most L - n; at rate 0 it loses none. As in T5 the product
and the quotient are rounded to float32, where 190 · 0.15 is more than 28.5; halves round to even.
The n dropped and the L - n kept tokens are each cut at random into k non-empty pieces, which
alternate, beginning with kept text; all such masks are equally likely. So the last token is always
dropped, and a single span is the window's tail; T5's code can roll the mask to avoid this, but does
not by default. Windows of one length give sources of one length and targets of one length, so
nothing is padded.
"""

from collections.abc import Iterator

import numpy as np

from switch_np.operations import check
from switch_np.training import corpus as corpora
from switch_np.training.vocabulary import (
    END, FIRST_SENTINEL, PAD, SENTINELS, VOCAB_SIZE, shift_right, until_end)
from switch_np.transformer.batch import Batch

RATE, MEAN_SPAN = 0.15, 3.0        # T5's and the Switch paper's


def missing_spans(rng: np.random.Generator, data: np.ndarray, batch_size: int, seq_len: int,
                  rate: float = RATE, mean_span: float = MEAN_SPAN) -> Batch:
    """Return corrupted windows from random positions of the text."""
    windows = corpora.windows(data, seq_len)
    return corrupt(rng, windows[rng.integers(0, len(windows), batch_size)], rate, mean_span)


def held_out(data: np.ndarray, batch_size: int, seq_len: int, rate: float = RATE,
             mean_span: float = MEAN_SPAN, seed: int = 0) -> Iterator[Batch]:
    """Yield the text in consecutive windows, corrupted; a short rest is left out.

    Which spans are missing depends on the seed, not on the batch size.

    >>> [len(batch.inputs) for batch in held_out(np.arange(50, dtype=np.uint8), 2, 16)]
    [2, 1]
    """
    windows = corpora.windows(data, seq_len)[::seq_len]
    mask = draw_mask(np.random.default_rng(seed), len(windows), seq_len, rate, mean_span)
    for begin in range(0, len(windows), batch_size):
        yield _batch(windows[begin:begin + batch_size], mask[begin:begin + batch_size])


def corrupt(rng: np.random.Generator, windows: np.ndarray, rate: float = RATE,
            mean_span: float = MEAN_SPAN) -> Batch:
    """Return windows (B, L) of bytes as source, inputs and targets, with spans drawn for each.

    >>> from switch_np.training.vocabulary import decode, encode
    >>> batch = corrupt(np.random.default_rng(0), encode("to be or not to be")[None], 0.3, 3.0)
    >>> decode(batch.source[0]), decode(batch.targets[0])
    ('to be o<0>t to b<1>', '<0>r no<1>e')
    """
    check.integers("windows", windows, ("B", "L"), 0, PAD)
    return _batch(windows, draw_mask(rng, len(windows), windows.shape[1], rate, mean_span))


def fill(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the text: the source (M,) of one row with the spans of a target (S,) put back.

    A target that a model wrote may be malformed. Of two spans for one sentinel the first counts.
    PAD, and text before the first sentinel, after END, or for a sentinel that the source lacks, is
    left out. Where a span is missing, the sentinel stays.

    >>> from switch_np.training.vocabulary import decode
    >>> a, b = FIRST_SENTINEL, FIRST_SENTINEL + 1
    >>> source = np.array([72, a, 111, b, END])
    >>> decode(fill(source, np.array([PAD, a, 101, 108, 108, b, 33, END])))
    'Hello!'
    """
    for name, ids in (("source", source), ("target", target)):
        check.integers(name, ids, ("S",), 0, VOCAB_SIZE)
    source, target = (until_end(ids[ids != PAD]) for ids in (source, target))
    spans: dict[int, np.ndarray] = {}
    for span in _split(target)[1:]:
        spans.setdefault(int(span[0]), span[1:])
    head, *rest = _split(source)
    filled = [ids for kept in rest for ids in (spans.get(int(kept[0]), kept[:1]), kept[1:])]
    return np.concatenate([head, *filled])


def check_text(corpus: corpora.Corpus, seq_len: int, rate: float = RATE,
               mean_span: float = MEAN_SPAN) -> None:
    """Refuse windows that cannot be corrupted, and a text too short for one in each part."""
    check.integer("seq_len", seq_len, 2)
    spans_of(seq_len, rate, mean_span)
    corpora.check_lengths(corpus, seq_len, "seq_len")


def spans_of(length: int, rate: float = RATE, mean_span: float = MEAN_SPAN) -> tuple[int, int]:
    """Return how many tokens a window of `length` loses, and in how many spans.

    ValueError names what is out of range, or needs more spans than there are sentinels.

    >>> spans_of(512), spans_of(64)
    ((77, 26), (10, 3))
    """
    check.integer("length", length, 2)
    check.number("rate", rate, 0, 1)
    check.number("mean_span", mean_span, 1)
    if rate == 0:
        return 0, 0
    dropped = min(max(round(np.float32(length) * np.float32(rate)), 1), length - 1)
    spans = min(max(round(np.float32(dropped) / np.float32(mean_span)), 1), length - dropped)
    if spans > SENTINELS:
        raise ValueError(f"length must need at most {SENTINELS} spans, the number of sentinels, "
                         f"got {length}, which needs {spans} at rate {rate} and mean_span "
                         f"{mean_span}")
    return dropped, spans


def draw_mask(rng: np.random.Generator, rows: int, length: int, rate: float = RATE,
              mean_span: float = MEAN_SPAN) -> np.ndarray:
    """Return (B, L) bool, True where a token is dropped.

    >>> for row in draw_mask(np.random.default_rng(0), 2, 40).astype(int):
    ...     print(*row, sep="")
    0000000000000001111000000000000000000011
    0000000000000000000000000001100000001111
    """
    dropped, spans = spans_of(length, rate, mean_span)
    if not dropped:
        return np.zeros((rows, length), bool)
    kept_BP = _pieces(rng, rows, length - dropped, spans)
    dropped_BP = _pieces(rng, rows, dropped, spans)
    end_BP = (kept_BP + dropped_BP).cumsum(axis=1)
    change = np.zeros((rows, length + 1), np.int8)
    np.put_along_axis(change, end_BP - dropped_BP, 1, axis=1)
    np.put_along_axis(change, end_BP, -1, axis=1)
    return change[:, :-1].cumsum(axis=1) > 0


def _pieces(rng: np.random.Generator, rows: int, items: int, count: int) -> np.ndarray:
    """Return the lengths (B, P) of `count` non-empty pieces of `items`, cut at random, by row."""
    cut_here = np.tile(np.arange(items - 1) < count - 1, (rows, 1))
    cuts = np.nonzero(rng.permuted(cut_here, axis=1))[1].reshape(rows, count - 1) + 1
    return np.diff(cuts, axis=1, prepend=0, append=items)


def _batch(windows_BL: np.ndarray, mask_BL: np.ndarray) -> Batch:
    ids_BL = windows_BL.astype(np.int64)
    targets_BS = _with_sentinels(ids_BL, ~mask_BL)
    return Batch(shift_right(targets_BS), targets_BS, source=_with_sentinels(ids_BL, mask_BL))


def _with_sentinels(ids_BL: np.ndarray, mask_BL: np.ndarray) -> np.ndarray:
    """Return the rows with one sentinel in place of each masked span, and END."""
    first_BL = mask_BL & ~np.pad(mask_BL[:, :-1], ((0, 0), (1, 0)))
    sentinel_BL = FIRST_SENTINEL - 1 + first_BL.cumsum(axis=1)
    ids_BL = np.where(first_BL, sentinel_BL, ids_BL)
    ids_BS = ids_BL[~mask_BL | first_BL].reshape(len(ids_BL), -1)
    return np.pad(ids_BS, ((0, 0), (0, 1)), constant_values=END)


def _split(ids: np.ndarray) -> list[np.ndarray]:
    """Return the ids before the first sentinel, then each sentinel with the ids after it."""
    return np.split(ids, np.flatnonzero(ids >= FIRST_SENTINEL))
