"""Which tokens go missing: as many as in T5, and every mask equally likely."""

from itertools import combinations

import numpy as np
import pytest
from support import broken

from switch_np.training import span_mask


def check_masks(module):
    """All masks of 12 tokens with 4 dropped in 2 spans are equally likely, and no other comes."""
    tokens = np.arange(12)
    wanted = {}
    for begin, end, second in combinations(range(1, 12), 3):
        mask = ((tokens >= begin) & (tokens < end)) | (tokens >= second)
        if mask.sum() == 4:
            wanted[mask.tobytes()] = 0
    assert len(wanted) == 21                 # 3 ways to cut 4 dropped in two, 7 to cut 8 kept
    masks = module.draw(np.random.default_rng(0), 21_000, 12, 0.33, 2.0)
    for mask in masks:
        assert mask.tobytes() in wanted
        wanted[mask.tobytes()] += 1
    counts = np.array(list(wanted.values()))
    assert ((counts - 1000) ** 2 / 1000).sum() < 45.3        # χ² of 20 degrees: passed by 0.1 %


def check_shares(module):
    for length, share, spans in ((64, 10 / 64, 3), (200, 0.15, 10), (512, 77 / 512, 26)):
        masks = module.draw(np.random.default_rng(0), 4000, length)
        assert (masks.mean(axis=1) == share).all()
        begins = masks[:, 1:] & ~masks[:, :-1]
        assert (begins.sum(axis=1) == spans).all() and not masks[:, 0].any() and masks[:, -1].all()
        middle = masks[:, length // 4:-length // 4].mean(axis=0)
        assert np.abs(middle - middle.mean()).max() < 4.5 * (0.15 * 0.85 / 4000) ** 0.5
        assert middle.mean() < share < middle.mean() + 0.04
    middle = module.draw(np.random.default_rng(1), 4000, 64)[:, 16:48].mean()
    assert abs(middle - 0.12) < 0.003


@pytest.mark.parametrize("check", [check_masks, check_shares])
def test_masks(check):
    check(span_mask)


@pytest.mark.parametrize("check, right, wrong", [
    (check_masks, "rng.permuted(cut_here, axis=1)", "rng.permutation(cut_here, axis=1)"),
    (check_masks, "rng.permuted(cut_here, axis=1)", "cut_here"),
    (check_masks, "reshape(rows, count - 1) + 1", "reshape(rows, count - 1)"),
    (check_masks, "dropped_BP, 1, axis=1", "dropped_BP - 1, 1, axis=1"),
    (check_shares, "round(length * rate)", "int(length * rate)"),
    (check_shares, "round(dropped / mean_span)", "int(dropped / mean_span)"),
    (check_shares, "change[:, :-1]", "change[:, 1:]")])
def test_a_mistake_in_the_mask_is_seen(check, right, wrong):
    with pytest.raises(AssertionError):
        check(broken(span_mask, right, wrong))


@pytest.mark.parametrize("length, rate, mean_span, want", [
    (2, 0.15, 3, (1, 1)), (10, 0.15, 3, (2, 1)), (30, 0.15, 3, (4, 1)), (31, 0.15, 3, (5, 2)),
    (512, 0.15, 3, (77, 26)), (10, 0.0, 3, (1, 1)), (10, 0.99, 3, (9, 1)), (9, 0.66, 2, (6, 3)),
    (4, 0.5, 1, (2, 2))])
def test_sizes_are_those_of_t5(length, rate, mean_span, want):
    assert span_mask.spans_of(length, rate, mean_span) == want


def test_one_span_is_the_tail():
    assert (span_mask.draw(np.random.default_rng(0), 9, 20) == (np.arange(20) >= 17)).all()
