"""The task "pairs", T5's text-to-text fine-tuning: read a source, write its target.

Source: Raffel et al. (2020), section 2.4: every task is text to text, trained with teacher forcing.
A file holds one pair per line, source TAB target. An encoder-decoder reads the source and writes
the target; a decoder alone continues the source, and only the target's ids count.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from switch_np.operations import check
from switch_np.training import corpus as corpora
from switch_np.training.vocabulary import END, PAD, encode, shift_right
from switch_np.transformer.batch import Batch
from switch_np.transformer.cross_entropy import IGNORED


class Pair(NamedTuple):
    """A question and its answer."""

    source: bytes
    target: bytes


class PairCorpus(NamedTuple):
    """Pairs to train on, and the last ones, held out."""

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]


def load(files: Sequence[str | Path], held_out_share: float = 0.1) -> PairCorpus:
    """Return the pairs of the files in order, the last ones held out.

    ValueError asks for files if there are none, and names the file and line that holds no pair.
    """
    if not files:
        raise ValueError("text must be given for the task 'pairs': files with one pair per line, "
                         "source TAB target")
    check.number("held_out_share", held_out_share, 0, 1)
    pairs = tuple(pair for file in files for pair in _read(file))
    cut = int(len(pairs) * (1 - held_out_share))
    return PairCorpus(pairs[:cut], pairs[cut:])


def encoder_decoder(pairs: Sequence[Pair]) -> Batch:
    """Return a batch for an encoder-decoder: source END and target END, padded.

    >>> batch = encoder_decoder([Pair(b"2+2", b"4"), Pair(b"7", b"seven")])
    >>> batch.source[1].tolist(), batch.inputs[0].tolist(), batch.targets[0].tolist()
    ([55, 257, 256, 256], [256, 52, 256, 256, 256, 256], [52, 257, -100, -100, -100, -100])
    """
    source_BM, source_padding_BM = _pad([_ended(pair.source) for pair in pairs])
    ids_BS, padding_BS = _pad([_ended(pair.target) for pair in pairs])
    return Batch(np.where(padding_BS, PAD, shift_right(ids_BS)),
                 np.where(padding_BS, IGNORED, ids_BS), padding_BS, source_BM, source_padding_BM)


def decoder_only(pairs: Sequence[Pair]) -> Batch:
    """Return a batch for a decoder alone: source END target END, where only the target counts.

    >>> batch = decoder_only([Pair(b"2+2", b"4"), Pair(b"7", b"up")])
    >>> batch.inputs.tolist(), batch.targets[0].tolist()
    ([[50, 43, 50, 257, 52], [55, 257, 117, 112, 256]], [-100, -100, -100, 52, 257])
    """
    ids, padding = _pad([np.concatenate([_ended(pair.source), _ended(pair.target)])
                         for pair in pairs])
    padding_BS = padding[:, 1:]                # inputs whose target is padding are not needed
    source_B1 = np.array([[len(pair.source)] for pair in pairs])
    answer_BS = (np.arange(padding_BS.shape[1]) >= source_B1) & ~padding_BS
    return Batch(np.where(padding_BS, PAD, ids[:, :-1]),
                 np.where(answer_BS, ids[:, 1:], IGNORED), padding_BS)


Form = Callable[[Sequence[Pair]], Batch]        # encoder_decoder or decoder_only


def random_pairs(rng: np.random.Generator, pairs: Sequence[Pair], batch_size: int,
                 form: Form = encoder_decoder) -> Batch:
    """Return a batch of random pairs."""
    _check_any(pairs)
    return form([pairs[n] for n in rng.integers(0, len(pairs), batch_size)])


def held_out(pairs: Sequence[Pair], batch_size: int,
             form: Form = encoder_decoder) -> Iterator[Batch]:
    """Yield all pairs in order, each once.

    >>> [len(batch.inputs) for batch in held_out([Pair(b"a", b"b")] * 5, 2)]
    [2, 2, 1]
    """
    _check_any(pairs)
    for begin in range(0, len(pairs), batch_size):
        yield form(pairs[begin:begin + batch_size])


def _check_any(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise ValueError("pairs must hold at least one, got none")


def check_lengths(corpus: PairCorpus, seq_len: int, form: Form = encoder_decoder) -> None:
    """Refuse a corpus with no pair in one of its parts, or with a row of more than seq_len ids."""
    for part, pairs in (("training", corpus.train), ("held-out", corpus.held_out)):
        if not pairs:
            raise ValueError(f"pairs must leave at least one for the {part} part, got 0")
        for n, (source, target) in enumerate(pairs, 1):
            ids = [len(source), len(target)]
            length = 1 + (sum(ids) if form is decoder_only else max(ids))
            if length > seq_len:
                raise ValueError(f"pairs must need at most seq_len = {seq_len} ids, got {length} "
                                 f"for pair {n} of the {part} part")


def _pad(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (B, S), padded at the end with PAD, and where they are padding (B, S)."""
    length_B = np.array([len(row) for row in rows])
    padding_BS = np.arange(length_B.max()) >= length_B[:, None]
    ids_BS = np.full(padding_BS.shape, PAD)
    ids_BS[~padding_BS] = np.concatenate(rows)
    return ids_BS, padding_BS


def _ended(text: bytes) -> np.ndarray:
    return np.append(encode(text), END)


def _read(file: str | Path) -> Iterator[Pair]:
    for number, line in enumerate(corpora.read(file, "pairs").splitlines(), 1):
        fields = line.split(b"\t")
        if len(fields) != 2 or not all(fields):
            raise ValueError(f"pairs must be lines of source TAB target, neither empty, got "
                             f"{line[:40]!r} in {file}, line {number}")
        yield Pair(*fields)
