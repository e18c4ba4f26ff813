"""The built-in text, the user's files, and the bigram baseline."""

import sys

import numpy as np
import pytest

from switch_np.training import corpus as corpora
from switch_np.training.corpus import Corpus


def test_built_in_text_is_prose_without_repeats():
    corpus = corpora.load()
    text = bytes(np.concatenate(corpus)).decode()
    assert 250_000 < len(text) < 600_000
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n")]
    assert len(set(paragraphs)) >= 0.995 * len(paragraphs)
    assert 2.5 < corpora.bigram_bits_per_byte(corpus) < 4


@pytest.mark.thorough
def test_a_python_without_the_language_reference_reads_our_docstrings(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert corpora.language_reference() is None
    text = bytes(np.concatenate(corpus := corpora.load())).decode()
    assert text.startswith("The Switch Transformer in NumPy") and 200_000 < len(text) < 600_000
    assert corpora.load.__doc__.split("\n")[0] in text
    assert 2.5 < corpora.bigram_bits_per_byte(corpus) < 4.5


def test_own_files(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a" * 90)
    (tmp_path / "b.txt").write_bytes(b"b" * 9)
    corpus = corpora.load([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert bytes(np.concatenate(corpus)) == b"a" * 90 + b"\n" + b"b" * 9
    assert len(corpus.held_out) == 10
    (tmp_path / "empty.txt").write_bytes(b"")
    for name, message in (("none.txt", "a readable file.*No such file"),
                          ("", "a readable file.*Is a directory"),
                          ("empty.txt", "a file with bytes in it.*which is empty")):
        with pytest.raises(ValueError, match=f"text must be {message}"):
            corpora.load([tmp_path / name])


def test_the_bigram_is_the_entropy_of_a_known_chain():
    rng = np.random.default_rng(0)
    data = rng.choice(np.array([10, 20], np.uint8), 40000, p=[0.25, 0.75])
    want = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    found = corpora.bigram_bits_per_byte(Corpus(data[:30000], data[30000:]))
    assert abs(found - want) < 0.02
