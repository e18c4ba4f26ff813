"""Spans of text go missing as in T5, come back exactly, and planted mistakes do not pass."""

from itertools import combinations

import numpy as np
import pytest
from support import broken
from test_shapes import trace

from switch_np.training import span_corruption
from switch_np.training.corpus import Corpus
from switch_np.training.vocabulary import END, FIRST_SENTINEL, PAD, SENTINELS, decode

DATA = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)
A, B = FIRST_SENTINEL, FIRST_SENTINEL + 1


def settings(seed):
    """Return a length, rate and mean span for which there are enough sentinels, and rows."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(2, 150))
    rate, mean_span = float(rng.choice([0.05, 0.15, 0.5, 0.9])), float(rng.choice([1.5, 3.0, 8.0]))
    return (length, rate if length < 90 else 0.15, mean_span), int(rng.integers(1, 6))


def by_loops(window, kept, dropped):
    """Return source, inputs and targets of one window, token after token."""
    source, targets, tokens = [], [], iter(window.tolist())
    for n, (keep, drop) in enumerate(zip(kept, dropped)):
        for _ in range(keep):
            source.append(next(tokens))
        source.append(FIRST_SENTINEL + n)
        targets.append(FIRST_SENTINEL + n)
        for _ in range(drop):
            targets.append(next(tokens))
    assert next(tokens, None) is None
    return source + [END], [PAD] + targets, targets + [END]


def check_loops(module):
    for seed in range(60):
        (length, rate, mean_span), rows = settings(seed)
        windows = np.random.default_rng(seed).integers(0, 256, (rows, length), dtype=np.uint8)
        batch = module.corrupt(np.random.default_rng(seed), windows, rate, mean_span)
        assert batch.padding is None and batch.source_padding is None
        dropped, count = module.spans_of(length, rate, mean_span)
        assert batch.source.shape == (rows, length - dropped + count + 1)
        assert batch.inputs.shape == batch.targets.shape == (rows, dropped + count + 1)
        rng = np.random.default_rng(seed)
        lengths = [module._pieces(rng, rows, n, count) for n in (length - dropped, dropped)]
        for row, want in enumerate(map(by_loops, windows, *lengths)):
            found = [ids[row].tolist() for ids in (batch.source, batch.inputs, batch.targets)]
            assert found == list(want)


def check_round_trip(module):
    for seed in range(60):
        options, rows = settings(seed)
        batch = module.missing_spans(np.random.default_rng(seed), DATA, rows, *options)
        again = module.missing_spans(np.random.default_rng(seed), DATA, rows, *options)
        for source, inputs, targets, same in zip(batch.source, batch.inputs, batch.targets,
                                                 again.targets):
            window = module.fill(source, targets)
            assert len(window) == options[0] and bytes(window.tolist()) in bytes(DATA)
            assert (module.fill(source, inputs) == window).all()        # inputs lack END alone
            assert (targets == same).all()


def check_malformed(module):
    source = np.array([72, A, 111, B, 46, END, 7])
    for target, text in (([A, 101, B, 33, END], "Heo!."), ([A, 101, A, 102, B, 33], "Heo!."),
                         ([B, 33, A, 101], "Heo!."), ([1, 2, A, 101], "Heo<1>."),
                         ([A, B, END, 33], "Ho."), ([], "H<0>o<1>."), ([END, A, 101], "H<0>o<1>."),
                         ([PAD, A, PAD, 101, B + 1, 9, B], "Heo."), ([101, 102], "H<0>o<1>.")):
        assert decode(module.fill(source, np.array(target, np.int64))) == text
    assert decode(module.fill(np.array([72, 105]), np.array([A, 33]))) == "Hi"


def check_held_out(module):
    whole = list(module.held_out(DATA, 7, 64))
    texts = [bytes(module.fill(*row).tolist())
             for batch in whole for row in zip(batch.source, batch.targets)]
    assert b"".join(texts) == bytes(DATA[:1000 // 64 * 64]) and len(whole) == 3
    sources = np.concatenate([batch.source for batch in whole])
    for batch_size, seed, same in ((2, 0, True), (99, 0, True), (7, 1, False)):
        other = list(module.held_out(DATA, batch_size, 64, seed=seed))
        assert (np.concatenate([batch.source for batch in other]) == sources).all() == same
    assert [batch.targets.shape[1] for batch in module.held_out(DATA, 99, 60, 0.5, 5.0)] == [37]


def check_reach(module):
    """Every byte of the text is reached, first and last too."""
    seen = set()
    batch = module.missing_spans(np.random.default_rng(0), np.arange(20, dtype=np.uint8), 500, 5)
    for source, targets in zip(batch.source, batch.targets):
        seen.update(module.fill(source, targets).tolist())
    assert seen == set(range(20))


def check_masks(module):
    """All masks of 12 tokens with 4 dropped in 2 spans are equally likely, and no other comes."""
    tokens = np.arange(12)
    wanted = {}
    for begin, end, second in combinations(range(1, 12), 3):
        mask = ((tokens >= begin) & (tokens < end)) | (tokens >= second)
        if mask.sum() == 4:
            wanted[mask.tobytes()] = 0
    assert len(wanted) == 21                 # 3 ways to cut 4 dropped in two, 7 to cut 8 kept
    masks = module.draw_mask(np.random.default_rng(0), 21_000, 12, 0.33, 2.0)
    for mask in masks:
        assert mask.tobytes() in wanted
        wanted[mask.tobytes()] += 1
    counts = np.array(list(wanted.values()))
    assert ((counts - 1000) ** 2 / 1000).sum() < 45.3        # χ² of 20 degrees: passed by 0.1 %


def check_shares(module):
    for length, share, spans in ((64, 10 / 64, 3), (200, 0.15, 10), (512, 77 / 512, 26)):
        masks = module.draw_mask(np.random.default_rng(0), 4000, length)
        assert (masks.mean(axis=1) == share).all()
        begins = masks[:, 1:] & ~masks[:, :-1]
        assert (begins.sum(axis=1) == spans).all() and not masks[:, 0].any() and masks[:, -1].all()
        middle = masks[:, length // 4:-length // 4].mean(axis=0)
        assert np.abs(middle - middle.mean()).max() < 4.5 * (0.15 * 0.85 / 4000) ** 0.5
        assert middle.mean() < share < middle.mean() + 0.04
    middle = module.draw_mask(np.random.default_rng(1), 4000, 64)[:, 16:48].mean()
    assert abs(middle - 0.12) < 0.003


@pytest.mark.parametrize("check", [check_loops, check_round_trip, check_malformed, check_held_out,
                                   check_reach, check_masks, check_shares])
def test_corruption(check):
    check(span_corruption)


@pytest.mark.parametrize("check, right, wrong", [
    (check_loops, "Batch(shift_right(targets_BS)", "Batch(targets_BS"),
    (check_loops, "FIRST_SENTINEL - 1 + first_BL", "FIRST_SENTINEL + first_BL"),
    (check_loops, "np.where(first_BL, sentinel_BL, ids_BL)", "np.where(first_BL, 258, ids_BL)"),
    (check_loops, "constant_values=END", "constant_values=PAD"),
    (check_loops, "_with_sentinels(ids_BL, ~mask_BL)", "_with_sentinels(ids_BL, mask_BL)"),
    (check_round_trip, "len(windows), batch_size)]", "len(windows), batch_size), ::-1]"),
    (check_round_trip, "corrupt(rng, windows[", "corrupt(np.random.default_rng(), windows["),
    (check_round_trip, "until_end(ids[ids != PAD])", "ids[ids != PAD]"),
    (check_malformed, "spans.setdefault(int(span[0]), span[1:])", "spans[span[0]] = span[1:]"),
    (check_malformed, "_split(target)[1:]", "_split(target)"),
    (check_malformed, "spans.get(int(kept[0]), kept[:1])", "spans.get(int(kept[0]), kept[:0])"),
    (check_malformed, "[head, *filled]", "filled"),
    (check_held_out, "mask[begin:begin + batch_size]", "mask[:len(windows[begin:][:batch_size])]"),
    (check_held_out, "np.random.default_rng(seed)", "np.random.default_rng()"),
    (check_held_out, "len(windows), seq_len, rate, mean_span)", "len(windows), seq_len)"),
    (check_reach, "rng.integers(0, len(windows),", "rng.integers(1, len(windows),"),
    (check_reach, "rng.integers(0, len(windows),", "rng.integers(0, len(windows) - 1,"),
    (check_masks, "rng.permuted(cut_here, axis=1)", "rng.permutation(cut_here, axis=1)"),
    (check_masks, "rng.permuted(cut_here, axis=1)", "cut_here"),
    (check_masks, "reshape(rows, count - 1) + 1", "reshape(rows, count - 1)"),
    (check_masks, "dropped_BP, 1, axis=1", "dropped_BP - 1, 1, axis=1"),
    (check_shares, "round(length * rate)", "int(length * rate)"),
    (check_shares, "round(dropped / mean_span)", "int(dropped / mean_span)"),
    (check_shares, "change[:, :-1]", "change[:, 1:]")])
def test_a_mistake_in_the_corruption_is_seen(check, right, wrong):
    with pytest.raises((AssertionError, ValueError, IndexError)):
        check(broken(span_corruption, right, wrong))


@pytest.mark.parametrize("length, rate, mean_span, want", [
    (2, 0.15, 3, (1, 1)), (10, 0.15, 3, (2, 1)), (30, 0.15, 3, (4, 1)), (31, 0.15, 3, (5, 2)),
    (512, 0.15, 3, (77, 26)), (10, 0.0, 3, (0, 0)), (10, 0.99, 3, (9, 1)), (9, 0.66, 2, (6, 3)),
    (4, 0.5, 1, (2, 2)), (190, 0.15, 3, (29, 10)), (350, 0.15, 3, (53, 18))])
def test_sizes_are_those_of_t5(length, rate, mean_span, want):
    assert span_corruption.spans_of(length, rate, mean_span) == want


def test_one_span_is_the_tail():
    masks = span_corruption.draw_mask(np.random.default_rng(0), 9, 20)
    assert (masks == (np.arange(20) >= 17)).all()


def test_suffixes_say_the_shape():
    found, seen = trace(lambda: span_corruption.missing_spans(
        np.random.default_rng(0), DATA, 3, 64))
    assert not found and len(seen) >= 10


def test_what_does_not_fit_is_refused():
    corpus, rng = Corpus(*np.zeros((2, 2000), np.uint8)), np.random.default_rng(0)
    check, corrupt = span_corruption.check_text, span_corruption.corrupt
    for function, arguments, message in (
            (check, (corpus, 999), f"length must need at most {SENTINELS} spans.*got 999"),
            (check, (corpus, 1), "seq_len must be at least 2, got 1"),
            (corrupt, (rng, DATA[None, :64], 1.0), "rate must be .*below 1, got 1.0"),
            (corrupt, (rng, DATA[None, :64], 0.15, 0.5), "mean_span must be .*at least 1, got 0.5"),
            (corrupt, (rng, np.full((1, 9), PAD)), r"windows must lie in 0 \.\. 255, got 256"),
            (span_corruption.fill, (np.array([1]), np.array([-100])),
             r"target must lie in 0 \.\. 289, got -100")):
        with pytest.raises(ValueError, match=message):
            function(*arguments)


def test_at_rate_0_nothing_is_dropped():
    batch = span_corruption.corrupt(np.random.default_rng(0), DATA[None, :9], rate=0.0)
    assert batch.source.tolist() == [[*DATA[:9], END]] and batch.targets.tolist() == [[A, END]]
    assert (span_corruption.fill(batch.source[0], batch.targets[0]) == DATA[:9]).all()
