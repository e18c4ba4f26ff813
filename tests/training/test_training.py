"""Optimizer against its formulas, checkpoints, exact resume, and text."""

import json
from dataclasses import replace

import numpy as np
import pytest

from switch_np import model
from switch_np.operations import tree
from switch_np.switch.config import SwitchConfig
from switch_np.training import (
    checkpoint, corpus as corpora, objective, optimizer, pairs, tasks, trainer)
from switch_np.training.adafactor import Adafactor
from switch_np.training.train_config import TASK_NAMES
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import TrainConfig
from switch_np.transformer.batch import Batch
from switch_np.transformer.model_config import ModelConfig

TEXT = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 40, np.uint8)
CORPUS = Corpus(TEXT[:1500], TEXT[1500:])
MODEL = ModelConfig(d_model=8, d_ff=16, num_heads=2, d_kv=4, num_layers=2, dropout=0.1,
                    switch=SwitchConfig(num_experts=3, sample=True, expert_dropout=0.2))
TRAIN = TrainConfig(steps=8, batch_size=3, seq_len=12, warmup=2, learning_rate=1e-2)


def test_adamw_is_its_formulas():
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((3, 2)), rng.standard_normal(2)
    params = {"w": w.copy(), "b": b.copy()}
    moments = optimizer.init(params)
    config = optimizer.AdamW(beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.1)
    m, v = {"w": 0, "b": 0}, {"w": 0, "b": 0}
    want = {"w": w, "b": b}
    for t in range(1, 6):
        grads = {name: rng.standard_normal(value.shape) for name, value in params.items()}
        optimizer.step(params, grads, moments, config, 0.05, t)
        for name, g in grads.items():
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.95 * v[name] + 0.05 * g * g
            adam = (m[name] / (1 - 0.8 ** t)) / (np.sqrt(v[name] / (1 - 0.95 ** t)) + 1e-3)
            decay = 0.1 if name == "w" else 0.0
            want[name] = want[name] - 0.05 * adam - 0.05 * decay * want[name]
            np.testing.assert_allclose(params[name], want[name], rtol=1e-12)


def test_clip_leaves_small_gradients_alone():
    grads = {"a": np.array([0.3, 0.4])}
    clipped, norm = optimizer.clip(grads, 1.0)
    assert clipped["a"] is grads["a"] and norm == 0.5


def test_schedule_rises_peaks_and_ends_at_zero():
    rates = [optimizer.learning_rate(n, 100, 10, 3e-3) for n in range(1, 101)]
    assert max(rates) == rates[9] == 3e-3 and rates[-1] == 0
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[9:]) < 0).all()
    small = [optimizer.learning_rate(n, 100, 10, 3e-13) for n in range(1, 101)]
    np.testing.assert_allclose(np.array(small) * 1e10, rates, rtol=1e-12)


def advance(run, steps):
    return [(float(loss.total), norm, [plan.load.tolist() for plan in loss.plans])
            for loss, norm in (trainer.advance(run, CORPUS) for _ in range(steps))]


@pytest.mark.parametrize("rule", [optimizer.AdamW(), Adafactor(),
                                  Adafactor(beta_1=0.9, weight_decay=0.1)])
@pytest.mark.parametrize("stop", [1, 3, 7])
def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path, stop, rule):
    train = replace(TRAIN, optimizer=rule)
    whole = trainer.start(MODEL, train, CORPUS)
    rows = advance(whole, 8)
    first = trainer.start(MODEL, train, CORPUS)
    part = advance(first, stop)
    trainer.save(first, tmp_path / "checkpoint.npz")
    second = trainer.load(tmp_path / "checkpoint.npz", CORPUS)
    assert part + advance(second, 8 - stop) == rows
    for name, value in tree.flatten(whole.params).items():
        np.testing.assert_array_equal(value, tree.flatten(second.params)[name], name)
    for name, value in tree.flatten(whole.moments).items():
        np.testing.assert_array_equal(value, tree.flatten(second.moments)[name], name)
    assert trainer.evaluate(whole, CORPUS.held_out) == trainer.evaluate(second, CORPUS.held_out)


def test_fine_tuning_starts_from_a_copy_with_dropouts_of_its_own():
    first = trainer.start(MODEL, TRAIN, CORPUS)
    advance(first, 2)
    before = tree.apply(np.copy, first.params)
    tuned = replace(MODEL, dropout=0.3, switch=replace(MODEL.switch, expert_dropout=0.0))
    second = trainer.start(tuned, TRAIN, CORPUS, params=first.params)
    tree.apply(np.testing.assert_array_equal, second.params, before)
    advance(second, 2)
    tree.apply(np.testing.assert_array_equal, first.params, before)
    with pytest.raises(ValueError, match="must have shape"):
        trainer.start(replace(MODEL, d_ff=17), TRAIN, CORPUS, params=first.params)


def test_the_options_name_every_task():
    assert TASK_NAMES == list(tasks.TASKS)


def task_problem(name, tmp_path):
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
    model_config, config, corpus = task_problem(name, tmp_path)
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
    model_config, config, corpus = task_problem("pairs", tmp_path)
    free = replace(model_config, switch=replace(model_config.switch, capacity_factor=None))
    run = trainer.start(free, config, corpus)
    nats, count = 0.0, 0
    for pair in corpus.held_out:
        batch = pairs.encoder_decoder([pair])
        nats += float(model.loss(run.params, batch, free).cross_entropy) * batch.targets.size
        count += batch.targets.size
    np.testing.assert_allclose(trainer.evaluate(run, corpus.held_out, 7), -nats / count, rtol=1e-5)


def test_another_seed_is_another_run():
    one = trainer.start(MODEL, TRAIN, CORPUS)
    two = trainer.start(MODEL, replace(TRAIN, seed=1), CORPUS)
    assert advance(one, 1) != advance(two, 1)


def test_a_checkpoint_replaces_the_older_one_whole(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, {"w": np.ones(2)}, {"step": 1})

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(path, {"w": np.zeros(2)}, {"step": 2})
    arrays, state = checkpoint.load(path)
    assert state == {"step": 1} and arrays["w"].tolist() == [1, 1]


def test_broken_checkpoints_are_refused_by_name(tmp_path):
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(ValueError, match=r"checkpoint must be a readable file, got .*missing"):
        checkpoint.load(tmp_path / "missing.npz")
    for content in (b"", b"not a zip", b"PK\x03\x04 half a zip"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint must be .*checkpoint\.npz"):
            checkpoint.load(path)
    run = trainer.start(MODEL, TRAIN, CORPUS)
    trainer.save(run, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="checkpoint must be"):
        trainer.load(path)
    path.write_bytes(whole)
    arrays, state = checkpoint.load(path)
    checkpoint.save(path, arrays, {**state, "model": {**state["model"], "d_ff": 17}})
    with pytest.raises(ValueError, match=r"checkpoint must hold .*must have shape"):
        trainer.load(path)
    checkpoint.save(path, arrays, {name: state[name] for name in state if name != "text_rng"})
    with pytest.raises(ValueError, match="text_rng"):
        trainer.load(path)
    np.savez(path, state=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="checkpoint must be"):
        checkpoint.load(path)


def test_resuming_on_another_text_is_refused(tmp_path):
    trainer.save(trainer.start(MODEL, TRAIN, CORPUS), tmp_path / "c.npz")
    other = Corpus(CORPUS.train[1:], CORPUS.held_out)
    with pytest.raises(ValueError, match="text must be the one that the run began with"):
        trainer.load(tmp_path / "c.npz", other)


def test_divergence_is_said_and_leaves_the_run_as_it_was():
    run = trainer.start(MODEL, TRAIN, CORPUS)
    run.params["decoder"]["0"]["feed_forward"]["w_in"][0, 0] = np.nan
    before = tree.apply(np.copy, run.params)
    with pytest.raises(FloatingPointError, match="not finite at step 1: try a lower learning rat"):
        trainer.advance(run, CORPUS)
    assert run.step == 0
    tree.apply(np.testing.assert_array_equal, run.params, before)


def test_held_out_text_is_read_once_and_in_full():
    data = np.arange(200, dtype=np.uint8)
    batches = list(objective.held_out(data, 4, 13))
    read = np.concatenate([batch.targets.ravel() for batch in batches])
    assert read.tolist() == list(range(1, 1 + 199 // 13 * 13))


def test_next_byte_reaches_the_whole_text():
    data = np.arange(20, dtype=np.uint8)
    batch = objective.next_byte(np.random.default_rng(0), data, 500, 3)
    assert batch.inputs.min() == 0 and batch.targets.max() == 19


def test_built_in_text_is_prose_without_repeats():
    corpus = corpora.load()
    text = bytes(np.concatenate(corpus)).decode()
    assert 250_000 < len(text) < 600_000
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n")]
    assert len(set(paragraphs)) >= 0.995 * len(paragraphs)
    assert 2.5 < corpora.bigram_bits_per_byte(corpus) < 4


def test_own_files(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a" * 90)
    (tmp_path / "b.txt").write_bytes(b"b" * 9)
    corpus = corpora.load([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert bytes(np.concatenate(corpus)) == b"a" * 90 + b"\n" + b"b" * 9
    assert len(corpus.held_out) == 10
    for name, words in (("none.txt", "No such file"), ("", "Is a directory")):
        with pytest.raises(ValueError, match=f"text must be a readable file.*{words}"):
            corpora.load([tmp_path / name])
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(ValueError, match="which is empty"):
        corpora.load([tmp_path / "empty.txt"])
    with pytest.raises(ValueError, match="text must leave more than seq_len, 12, bytes"):
        trainer.start(MODEL, TRAIN, Corpus(TEXT[:5], TEXT[:5]))


def test_the_bigram_is_the_entropy_of_a_known_chain():
    rng = np.random.default_rng(0)
    data = rng.choice(np.array([10, 20], np.uint8), 40000, p=[0.25, 0.75])
    want = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    found = corpora.bigram_bits_per_byte(Corpus(data[:30000], data[30000:]))
    assert abs(found - want) < 0.02


def test_configs_round_trip_and_refuse_nonsense():
    from dataclasses import asdict

    assert TrainConfig.from_dict(json.loads(json.dumps(asdict(TRAIN)))) == TRAIN
    assert ModelConfig.from_dict(json.loads(json.dumps(MODEL.to_dict()))) == MODEL
    for options, words in (({"steps": 0}, "steps must be at least 1, got 0"),
                           ({"dtype": "int8"}, "dtype must be one of"),
                           ({"learning_rate": float("nan")}, "learning_rate must be finite")):
        with pytest.raises(ValueError, match=words):
            TrainConfig(**options)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64, np.int32])
def test_targets_of_padding_do_not_count_whatever_their_type(dtype):
    config = ModelConfig(num_layers=1, d_model=8, d_ff=8, d_kv=4,
                         switch=SwitchConfig(num_experts=2))
    params = model.init(np.random.default_rng(0), config)
    ids = np.random.default_rng(1).integers(0, 150, (2, 6))
    padding = np.arange(6)[None].repeat(2, axis=0) > 3
    want, found = (float(model.loss(params, Batch(ids, targets, padding), config).total)
                   for targets in (ids, ids.astype(dtype)))
    assert found == want


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d.transpose(1, 0, 2), r"d_logits must have shape \(2, 6, 256\), got \(6, 2, 256\)"),
    (lambda d: d.reshape(12, 256), r"d_logits must have shape \(2, 6, 256\), got \(12, 256\)"),
    (lambda d: d.astype(np.float32), "d_logits must be float64 like the rest, got float32"),
    (lambda d: d.astype(int), "d_logits must hold float32 or float64 numbers, got int64"),
])
def test_gradients_of_logits_that_do_not_fit_are_refused(change, message):
    params = model.init(np.random.default_rng(0), MODEL, dtype=np.float64)
    logits, _, cache = model.forward(params, np.arange(12).reshape(2, 6), MODEL)
    with pytest.raises((TypeError, ValueError), match=message):
        model.backward(change(np.ones(logits.shape)), cache)
