"""Pairs of source and target, in files and in batches; planted mistakes are seen."""

from dataclasses import replace

import numpy as np
import pytest
from support import TINY, broken
from test_shapes import trace

from switch_np import model
from switch_np.training import pairs, vocabulary
from switch_np.training.pairs import Pair, PairCorpus
from switch_np.training.vocabulary import END, PAD, VOCAB_SIZE
from switch_np.transformer.cross_entropy import IGNORED
from switch_np.transformer.model_config import ModelConfig


def random_pairs(seed, count=6):
    rng = np.random.default_rng(seed)
    return [Pair(rng.bytes(rng.integers(1, 9)), rng.bytes(rng.integers(1, 9)))
            for _ in range(count)]


def filled(row, length, filler):
    return row + [filler] * (length - len(row))


def check_encoder_decoder(module):
    for seed in range(20):
        some = random_pairs(seed)
        batch = module.encoder_decoder(some)
        m, s = (max(map(len, side)) + 1 for side in zip(*some))
        for n, (source, target) in enumerate(some):
            ids = [*target, END]
            assert batch.source[n].tolist() == filled([*source, END], m, PAD)
            assert batch.inputs[n].tolist() == filled([PAD, *target], s, PAD)
            assert batch.targets[n].tolist() == filled(ids, s, IGNORED)
            assert batch.padding[n].tolist() == filled([False] * len(ids), s, True)
            assert batch.source_padding[n].tolist() == filled([False] * (len(source) + 1), m, True)


def check_decoder_only(module):
    for seed in range(20):
        some = random_pairs(seed)
        batch = module.decoder_only(some)
        assert batch.source is None and batch.source_padding is None
        s = max(len(source) + len(target) for source, target in some) + 1
        for n, (source, target) in enumerate(some):
            ids = [*source, END, *target]
            assert batch.inputs[n].tolist() == filled(ids, s, PAD)
            assert batch.targets[n].tolist() == filled(
                [IGNORED] * len(source) + [*target, END], s, IGNORED)
            assert batch.padding[n].tolist() == filled([False] * len(ids), s, True)


def check_batches(module):
    some = random_pairs(0, 11)
    seen = np.concatenate([batch.targets.ravel() for batch in module.held_out(some, 4)])
    assert (seen == END).sum() == 11
    first, same, other = (module.random_pairs(np.random.default_rng(seed), some, 50)
                          for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, same))
    assert first.source.shape != other.source.shape or (first.source != other.source).any()
    assert len(np.unique(first.source, axis=0)) == 11          # 50 draws: each of the 11 came
    joined = module.random_pairs(np.random.default_rng(0), some, 3, module.decoder_only)
    assert joined.source is None and len(joined.inputs) == 3


CHECKS = [check_encoder_decoder, check_decoder_only, check_batches]


@pytest.mark.parametrize("check", CHECKS)
def test_pairs(check):
    check(pairs)


@pytest.mark.parametrize("check, right, wrong", [
    (check_encoder_decoder, "np.where(padding_BS, PAD, shift_right(ids_BS))",
     "shift_right(ids_BS)"),
    (check_encoder_decoder, "shift_right(ids_BS))", "ids_BS)"),
    (check_encoder_decoder, "np.where(padding_BS, IGNORED, ids_BS)", "ids_BS"),
    (check_encoder_decoder, "padding_BS, source_BM", "~padding_BS, source_BM"),
    (check_encoder_decoder, "np.append(encode(text), END)", "encode(text)"),
    (check_encoder_decoder, "np.full(padding_BS.shape, PAD)", "np.zeros(padding_BS.shape, int)"),
    (check_encoder_decoder, "return ids_BS, padding_BS", "return ids_BS, ids_BS == 97"),
    (check_decoder_only, ">= source_B1", "> source_B1"),
    (check_decoder_only, ") & ~padding_BS", ")"),
    (check_decoder_only, "padding[:, 1:] ", "padding[:, :-1] "),
    (check_decoder_only, "np.where(padding_BS, PAD, ids[:, :-1])", "ids[:, :-1]"),
    (check_batches, "rng.integers(0, len(pairs), batch_size)", "range(batch_size)"),
    (check_batches, "rng.integers(0, len(pairs), ", "rng.integers(1, len(pairs), "),
    (check_batches, "range(0, len(pairs), batch_size)", "range(0, len(pairs) - 3, batch_size)")])
def test_a_mistake_in_the_pairs_is_seen(check, right, wrong):
    with pytest.raises((AssertionError, IndexError)):
        check(broken(pairs, right, wrong))


@pytest.mark.parametrize("right, wrong", [
    ("((0, 0), (1, 0)), constant_values=PAD)", "((0, 0), (1, 0)))"),
    ("targets[:, :-1], ((0, 0), (1, 0))", "targets[:, 1:], ((0, 0), (0, 1))")])
def test_a_mistake_in_the_shift_is_seen(monkeypatch, right, wrong):
    monkeypatch.setattr(pairs, "shift_right", broken(vocabulary, right, wrong).shift_right)
    with pytest.raises(AssertionError):
        check_encoder_decoder(pairs)


def test_a_padded_batch_costs_what_its_pairs_cost_alone():
    config = replace(ModelConfig(**TINY), vocab_size=VOCAB_SIZE, switch_every=0)
    params = model.init(np.random.default_rng(0), config)
    some = random_pairs(1)
    whole = model.loss(params, pairs.decoder_only(some), config).cross_entropy
    alone = [model.loss(params, pairs.decoder_only([pair]), config).cross_entropy for pair in some]
    counted = [len(pair.target) + 1 for pair in some]
    np.testing.assert_allclose(whole, np.average(alone, weights=counted), rtol=1e-12)


def test_files_and_their_lines(tmp_path):
    path, other = tmp_path / "sums.tsv", tmp_path / "more.tsv"
    path.write_bytes(b"".join(b"%d+1\t%d\r\n" % (n, n + 1) for n in range(15)))
    other.write_bytes("né\tborn\n".encode() * 5)
    corpus = pairs.load([path, other])
    assert len(corpus.train) == 18 and corpus.train[3] == (b"3+1", b"4")
    assert corpus.held_out == (Pair("né".encode(), b"born"),) * 2
    assert len(pairs.load([path], 0.4).held_out) == 6
    for line in (b"no tab", b"a\tb\tc", b"\tb", b"a\t", b""):
        other.write_bytes(b"a\tb\n" + line + b"\nc\td\n")
        with pytest.raises(ValueError, match=r"pairs must be lines .*more\.tsv, line 2"):
            pairs.load([path, other])
    with pytest.raises(ValueError, match=r"pairs must be a readable file, got .*none\.tsv: No"):
        pairs.load([tmp_path / "none.tsv"])
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="pairs must be a file with bytes in it"):
        pairs.load([other])


def test_pairs_that_do_not_fit_are_refused():
    short, long = Pair(b"12", b"34"), Pair(b"1234567", b"89")
    for corpus, seq_len, form, got in (
            (PairCorpus((short, short), (long,)), 7, pairs.encoder_decoder,
             "got 8 for pair 1 of the held-out"),
            (PairCorpus((short, long), (short,)), 9, pairs.decoder_only,
             "got 10 for pair 2 of the training")):
        with pytest.raises(ValueError, match=f"pairs must need at most seq_len = {seq_len}.*{got}"):
            pairs.check_lengths(corpus, seq_len, form)
        pairs.check_lengths(corpus, seq_len + 1, form)
        widths = [ids.shape[1] for some in corpus for ids in form(some) if ids is not None]
        assert max(widths) == seq_len + 1
    with pytest.raises(ValueError, match="pairs must leave at least one for the training part"):
        pairs.check_lengths(PairCorpus((), (short,)), 9)


def test_suffixes_say_the_shape():
    found, seen = trace(lambda: [form(random_pairs(0)) for form in (pairs.encoder_decoder,
                                                                    pairs.decoder_only)])
    assert not found and len(seen) >= 9
    assert pairs._pad([np.array([], np.int64), np.array([5])])[0].tolist() == [[PAD], [5]]
