"""Text-to-text fine-tuning, T5's way: a source goes in, a target comes out.

Source: Raffel et al. (2020), section 2.4: every task is text to text, trained with teacher forcing.
A file holds a pair a line, source TAB target. An encoder-decoder reads the source and writes the
target; a decoder alone goes on from the source, and only the target's ids count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from switch_np.operations import check
from switch_np.training import corpus as corpora, padded_rows
from switch_np.training.vocabulary import END, PAD, encode
from switch_np.transformer.batch import Batch
from switch_np.transformer.cross_entropy import IGNORED


class Pair(NamedTuple):
    """What is asked, and the answer."""

    source: bytes
    target: bytes


class PairCorpus(NamedTuple):
    """Pairs to train on, and those held out: the last lines."""

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]


def load(files: Sequence[str | Path], held_out_share: float = 0.1) -> PairCorpus:
    """Return the pairs of the files in their order, with the last ones held out.

    Raises
    ------
    ValueError
        Naming the file, and the line, that holds no pair.
    """
    check.number("held_out_share", held_out_share, 0, 1)
    pairs = tuple(pair for file in files for pair in _read(file))
    cut = int(len(pairs) * (1 - held_out_share))
    return PairCorpus(pairs[:cut], pairs[cut:])


def encoder_decoder(pairs: Sequence[Pair]) -> Batch:
    """Return a batch for an encoder-decoder: END after source and target, each padded.

    Examples
    --------
    >>> batch = encoder_decoder([Pair(b"2+2", b"4"), Pair(b"7", b"seven")])
    >>> batch.source[1].tolist(), batch.inputs[0].tolist(), batch.targets[0].tolist()
    ([55, 257, 256, 256], [256, 52, 256, 256, 256, 256], [52, 257, -100, -100, -100, -100])
    """
    source_BM, source_padding_BM = padded_rows.pad([_ended(pair.source) for pair in pairs])
    ids_BS, padding_BS = padded_rows.pad([_ended(pair.target) for pair in pairs])
    return Batch(np.where(padding_BS, PAD, padded_rows.shift_right(ids_BS)),
                 np.where(padding_BS, IGNORED, ids_BS), padding_BS, source_BM, source_padding_BM)


def decoder_only(pairs: Sequence[Pair]) -> Batch:
    """Return a batch for a decoder alone: source END target END, where only the target counts.

    Examples
    --------
    >>> batch = decoder_only([Pair(b"2+2", b"4"), Pair(b"7", b"up")])
    >>> batch.inputs.tolist()
    [[50, 43, 50, 257, 52], [55, 257, 117, 112, 256]]
    >>> batch.targets.tolist()
    [[-100, -100, -100, 52, 257], [-100, 117, 112, 257, -100]]
    """
    ids, padding = padded_rows.pad([np.concatenate([_ended(pair.source), _ended(pair.target)])
                             for pair in pairs])
    padding_BS = padding[:, 1:]                # where nothing is asked, nothing need be read
    source_B1 = np.array([[len(pair.source)] for pair in pairs])
    answer_BS = (np.arange(padding_BS.shape[1]) >= source_B1) & ~padding_BS
    return Batch(np.where(padding_BS, PAD, ids[:, :-1]),
                 np.where(answer_BS, ids[:, 1:], IGNORED), padding_BS)


Form = Callable[[Sequence[Pair]], Batch]


def random_pairs(rng: np.random.Generator, pairs: Sequence[Pair], batch_size: int,
                 form: Form = encoder_decoder) -> Batch:
    """Return a batch of random pairs, in the form of `encoder_decoder` or `decoder_only`."""
    return form([pairs[n] for n in rng.integers(0, len(pairs), batch_size)])


def held_out(pairs: Sequence[Pair], batch_size: int,
             form: Form = encoder_decoder) -> Iterator[Batch]:
    """Yield all pairs in their order, each once.

    >>> [len(batch.inputs) for batch in held_out([Pair(b"a", b"b")] * 5, 2)]
    [2, 2, 1]
    """
    for begin in range(0, len(pairs), batch_size):
        yield form(pairs[begin:begin + batch_size])


def check_lengths(corpus: PairCorpus, seq_len: int, form: Form = encoder_decoder) -> None:
    """Refuse pairs without one in each part, and those of which a row would be too long.

    >>> check_lengths(PairCorpus((Pair(b"7", b"seven"),), (Pair(b"2+2", b"4"),)), 5)
    Traceback (most recent call last):
    ValueError: pairs must need at most seq_len, 5, ids, got 6 in pair 1 of the training part
    """
    for name, pairs in (("training", corpus.train), ("held-out", corpus.held_out)):
        if not pairs:
            raise ValueError(f"pairs must leave at least one for their {name} part, got 0")
        ids = np.concatenate([_lengths(batch) for batch in held_out(pairs, 1024, form)])
        if (ids > seq_len).any():
            first = int((ids > seq_len).argmax())
            raise ValueError(f"pairs must need at most seq_len, {seq_len}, ids, got {ids[first]} "
                             f"in pair {first + 1} of the {name} part")


def _lengths(batch: Batch) -> np.ndarray:
    paddings = [padding for padding in (batch.padding, batch.source_padding) if padding is not None]
    lengths: np.ndarray = np.max([(~padding).sum(axis=1) for padding in paddings], axis=0)
    return lengths


def _ended(text: bytes) -> np.ndarray:
    return np.append(encode(text), END)


def _read(file: str | Path) -> Iterator[Pair]:
    for number, line in enumerate(corpora.read(file, "pairs").splitlines(), 1):
        parts = line.split(b"\t")
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"pairs must be lines of source TAB target, neither empty, got "
                             f"{line[:40]!r} in {file}, line {number}")
        yield Pair(*parts)
