"""Every task learns and resumes; texts that do not fit are refused; the unigram baseline."""

from dataclasses import replace

import numpy as np
import pytest
from training.small_run import CORPUS, MODEL, TRAIN

from switch_np import model
from switch_np.training import corpus as corpora, pairs, span_corruption, tasks, trainer
from switch_np.training.corpus import Corpus
from switch_np.training.vocabulary import END, VOCAB_SIZE
from switch_np.transformer.batch import Batch
from switch_np.transformer.cross_entropy import IGNORED


def problem(name, tmp_path):
    """Return the model's config, the training's, and a corpus."""
    if name == "lm":
        return MODEL, TRAIN, CORPUS
    model_config = replace(MODEL, vocab_size=290, num_encoder_layers=2)
    config = replace(TRAIN, task=name.split(",")[0], seq_len=24)
    if name == "span":
        return model_config, config, CORPUS
    (tmp_path / "pairs.tsv").write_text("".join(f"{n}*2\t{2 * n}\n" for n in range(100)))
    if name == "pairs, decoder-only":
        model_config = replace(model_config, num_encoder_layers=0)
    return model_config, config, tasks.named("pairs").load([tmp_path / "pairs.tsv"])


@pytest.mark.parametrize("name", ["lm", "span", "pairs", "pairs, decoder-only"])
def test_every_task_learns_and_is_resumed(name, tmp_path):
    model_config, config, corpus = problem(name, tmp_path)
    run = trainer.start(model_config, replace(config, steps=24), corpus)
    scale = tasks.named(config.task).measure.scale
    before = trainer.evaluate(run, corpus.held_out) / scale
    for _ in range(16):
        trainer.advance(run, corpus)
    trainer.save(run, tmp_path / "run.npz")
    second = trainer.load(tmp_path / "run.npz", corpus)
    for _ in range(8):
        assert trainer.advance(run, corpus)[0].total == trainer.advance(second, corpus)[0].total
    assert trainer.evaluate(run, corpus.held_out) / scale < before - 0.5


def test_the_held_out_loss_is_the_mean_over_targets(tmp_path):
    model_config, config, corpus = problem("pairs", tmp_path)
    free = replace(model_config, switch=replace(model_config.switch, capacity_factor=None))
    run = trainer.start(free, config, corpus)
    nats, count = 0.0, 0
    for pair in corpus.held_out:
        batch = pairs.encoder_decoder([pair])
        nats += float(model.loss(run.params, batch, free).cross_entropy) * batch.targets.size
        count += batch.targets.size
    np.testing.assert_allclose(trainer.evaluate(run, corpus.held_out, 7), -nats / count, rtol=1e-5)


@pytest.mark.parametrize("name, least", [("lm", "seq_len + 1 = 13"), ("span", "seq_len = 24")])
def test_texts_shorter_than_a_window_are_refused(name, least, tmp_path):
    model_config, config, _ = problem(name, tmp_path)
    length = int(least.split()[-1])
    long, short = np.zeros(length, np.uint8), np.zeros(length - 1, np.uint8)
    trainer.start(model_config, config, Corpus(long, long))
    for part, corpus in ("training", Corpus(short, long)), ("held-out", Corpus(long, short)):
        message = f"text must have at least {least} bytes in its {part} part, got {length - 1}"
        with pytest.raises(ValueError, match=message.replace("+", r"\+")):
            trainer.start(model_config, config, corpus)


def test_the_unigram_is_the_entropy_of_known_probabilities():
    rng = np.random.default_rng(0)
    ids = rng.choice([5, END], (3, 40_000), p=[0.25, 0.75])
    train, held_out = ([Batch(ids, np.where(rng.random(ids.shape) < 0.5, IGNORED, ids))]
                       for _ in range(2))
    want = 0.25 * np.log(0.25) + 0.75 * np.log(0.75)
    assert abs(tasks.unigram(train, held_out) - want) < 0.005
    unseen = [Batch(ids, np.full_like(ids, 9))]
    assert tasks.unigram(train, unseen, 0.0) == -np.inf
    counted = (train[0].targets != IGNORED).sum()
    np.testing.assert_allclose(tasks.unigram(train, unseen, 2.0),
                               np.log(2 / (counted + 2 * VOCAB_SIZE)), rtol=1e-12)
    with pytest.raises(ValueError, match="batches must hold at least one target that counts"):
        tasks.unigram(train, [])


def test_the_unigram_knows_less_than_the_bytes_and_more_than_nothing():
    train, held_out = (span_corruption.held_out(data, 256, 64) for data in corpora.load())
    assert -np.log(VOCAB_SIZE) < tasks.unigram(train, held_out) < -2
