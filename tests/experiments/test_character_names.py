"""The pairs to fine-tune on."""

import hashlib

import pytest

from switch_np.experiments import character_names


def test_the_pairs_are_the_same_in_every_python():
    """The hash was made with Python 3.10, and is that of 3.11, 3.12 and 3.13."""
    every = [tuple(pair) for pair in character_names.all_pairs()]
    assert len(every) == len(set(every)) == 11_350
    assert hashlib.sha256(repr(every).encode()).hexdigest()[:12] == "47e19b9a66d6"


def test_what_is_held_out_is_not_trained_on():
    corpus = character_names.load()
    assert len(corpus.train) == len(corpus.held_out) == 384
    assert not set(corpus.train) & set(corpus.held_out)
    assert character_names.load(5, 384).train == corpus.train[:5]
    with pytest.raises(ValueError, match="train and held_out must be at most 11350 together"):
        character_names.load(11_000, 384)
