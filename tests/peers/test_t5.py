"""google-research/text-to-text-transfer-transformer: data/preprocessors_test: span corruption.

Sentinels go down from the top there, here up from FIRST_SENTINEL.
"""

import numpy as np
import pytest

from switch_np.training import span_corruption
from switch_np.training.vocabulary import END, FIRST_SENTINEL

A, B = FIRST_SENTINEL, FIRST_SENTINEL + 1


@pytest.mark.parametrize("mean, window, targets", [(2.0, 70, 22), (1.0, 63, 27)])
def test_window_that_fills_64_inputs_and_its_targets(mean, window, targets):
    """The longest whose corrupted inputs, END included, fit."""
    def lengths(length):
        dropped, spans = span_corruption.spans_of(length, .2, mean)
        return length - dropped + spans + 1, dropped + spans + 1
    longest = max(n for n in range(2, 90) if lengths(n)[0] <= 64)
    assert (longest, lengths(longest)[1]) == (window, targets)


def test_the_form_of_a_mask(rng):
    """As many noise tokens and spans as there: 8 of 32 in 4, the first kept, the last dropped."""
    masks = span_corruption.draw_mask(rng, 20, 32, .25, 2.0).astype(int)
    assert (masks.sum(axis=1) == 8).all() and not masks[:, 0].any() and masks[:, -1].all()
    assert ((np.diff(masks, axis=1, prepend=0) == 1).sum(axis=1) == 4).all()
    assert len(np.unique(masks, axis=0)) > 15


def test_mean_density_over_short_windows(rng):
    lengths = [16 + i % 3 for i in range(50)]
    dropped = sum(span_corruption.draw_mask(rng, 1, n, .15, 3.0).sum() for n in lengths)
    assert dropped / sum(lengths) == pytest.approx(.15, abs=.01)


@pytest.mark.parametrize("length", [70, 190, 350, 512])
def test_counts_are_rounded_in_float32(length):
    """190 · .15 is 28.5000019 there; halves go to even."""
    dropped = int(np.round(np.float32(length) * np.float32(.15)))
    spans = int(np.round(np.float32(dropped) / np.float32(3)))
    assert span_corruption.spans_of(length) == (dropped, spans)


def test_a_rate_of_0_leaves_every_token(rng):
    assert not span_corruption.draw_mask(rng, 3, 32, 0.0, 2.0).any()


WORDS = [3, 2, 20, 4, 3, 2, 8, 13, 2, 3, 2, 23, 7, 19, 22, 3, 2, 7, 2]


@pytest.mark.parametrize("tokens, dropped, source, targets", [
    ([10, 11, 12, 13, 14, 15], [0, 1, 4], [A, 12, 13, B, 15], [10, 11, A, 14, B]),
    (WORDS, [8, *range(14, 19)], [*WORDS[:8], A, *WORDS[9:14], B], [A, 2, B, 22, 3, 2, 7, 2])])
def test_one_sentinel_per_span(tokens, dropped, source, targets, monkeypatch):
    """The second is the peer's denoising example, whose 19 tokens lose 6 in 2 spans."""
    mask = np.isin(np.arange(len(tokens)), dropped)[None]
    monkeypatch.setattr(span_corruption, "draw_mask", lambda *_: mask)
    batch = span_corruption.corrupt(None, np.array([tokens]))
    assert batch.source[0].tolist() == [*source, END]
    if not mask[0, 0]:
        assert batch.targets[0].tolist() == [*targets, END]
        assert span_corruption.spans_of(19, .3, 3.0) == (6, 2)
