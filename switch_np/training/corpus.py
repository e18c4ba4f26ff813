"""The text to train on, as bytes: technical prose that comes with CPython, or the user's files.

The built-in text is `pydoc_data.topics`, the language reference behind `help()`. A Python in the
browser comes without it; the text is then the docstrings of switch_np, 250 KB that ship with it
anyway. Repeated paragraphs are taken once, or the held-out text would contain training text.
"""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from switch_np.operations import check, environment

UNSIZED = 2 ** 28    # bytes to be read from devices and pipes, which may have no end


class Corpus(NamedTuple):
    """Bytes (uint8) to train on, and the end of the text, held out from training."""

    train: np.ndarray
    held_out: np.ndarray


def load(files: Sequence[str | Path] = (), held_out_share: float = 0.1) -> Corpus:
    """Return the text of the files, or the built-in text if there are none, split in two.

    ValueError names a file that is missing, unreadable or empty.

    >>> corpus = load()
    >>> len(corpus.train) > 300_000, bytes(corpus.train[:22]).decode()
    (True, 'The "assert" statement')
    """
    check.number("held_out_share", held_out_share, 0, 1)
    text = b"\n".join(read(file, "text") for file in files) if files else built_in()
    data = np.frombuffer(text, np.uint8)
    cut = int(len(data) * (1 - held_out_share))
    return Corpus(data[:cut], data[cut:])


def built_in() -> bytes:
    """Return the language reference's chapters in alphabetical order, each paragraph once.

    Where there is none, return the docstrings of switch_np, file by file.
    """
    chapters = language_reference()
    texts = _docstrings() if chapters is None else [text for _, text in sorted(chapters.items())]
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n\n")]
    first = {text.strip(): text for text in reversed(paragraphs) if text.strip()}
    return "\n\n".join(reversed(first.values())).encode()


def language_reference() -> dict[str, str] | None:
    """Return the chapters behind `help()`, or None where Python came without them."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return None
    return topics


def _docstrings() -> list[str]:
    """Return every docstring of switch_np, in the order of its files."""
    trees = [ast.parse(file.read_text(encoding="utf-8"))
             for file in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return [ast.get_docstring(node) or "" for tree in trees for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]


def read(file: str | Path, name: str) -> bytes:
    """Return the contents of a file; errors call it `name`, and give its path."""
    path, pieces, most = Path(file), list[bytes](), environment.free_memory() // 2
    if not path.is_file():
        most = min(most, UNSIZED)
    left = most
    try:
        with open(path, "rb") as opened:
            while left >= 0 and (piece := opened.read(2 ** 24)):
                pieces.append(piece)
                left -= len(piece)
    except OSError as error:
        raise ValueError(f"{name} must be a readable file, got {path}: {error.strerror}") from error
    if left < 0:
        raise ValueError(f"{name} must fit into {most:,} bytes here, got {path}, which is larger")
    text = b"".join(pieces)
    if not text:
        raise ValueError(f"{name} must be a file with bytes in it, got {path}, which is empty")
    return text


def check_lengths(corpus: Corpus, least: int, wanted: str) -> None:
    """Refuse a text whose training or held-out part has fewer than `least` bytes."""
    for part, data in (("training", corpus.train), ("held-out", corpus.held_out)):
        if len(data) < least:
            raise ValueError(f"text must have at least {wanted} = {least} bytes in its {part} "
                             f"part, got {len(data)}")


def windows(data: np.ndarray, length: int) -> np.ndarray:
    """Return every window of `length` bytes of a text (T,), as a view; at least one must fit."""
    if len(data) < length:
        raise ValueError(f"text must have at least {length} bytes, got {len(data)}")
    return sliding_window_view(data, length)


def bigram_bits_per_byte(corpus: Corpus, smoothing: float = 0.05) -> float:
    """Return the held-out bits per byte of a byte bigram of the training text: a baseline.

    P(b | a) = (count(a, b) + smoothing) / (count(a) + 256 smoothing); the default is close to the
    best for the built-in text.
    """
    counts = np.zeros((256, 256))
    np.add.at(counts, (corpus.train[:-1], corpus.train[1:]), 1)
    counts += smoothing
    bits = -np.log2(counts / counts.sum(axis=1, keepdims=True))
    return float(bits[corpus.held_out[:-1], corpus.held_out[1:]].mean())
