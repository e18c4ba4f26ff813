"""What a model can be asked: the byte that follows, missing spans, or the answer to a question.

A task knows its text, draws batches from it, reads the held-out part in full, and has a measure and
a baseline. `lm` suits a decoder-only model, `span` an encoder-decoder, `pairs` both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import check
from switch_np.training import corpus as corpora, objective, pairs, span_corruption, unigram
from switch_np.training.train_config import TrainConfig
from switch_np.training.corpus import Corpus
from switch_np.training.pairs import PairCorpus
from switch_np.training.vocabulary import VOCAB_SIZE
from switch_np.transformer.batch import Batch
from switch_np.transformer.model_config import ModelConfig


class Measure(NamedTuple):
    """How the held-out cross-entropy is reported: its name, in words, and per nat."""

    column: str
    words: str
    scale: float


BITS = Measure("bits_per_byte", "bits per byte", 1 / math.log(2))
PERPLEXITY = Measure("neg_log_perplexity", "negative log perplexity (nats per token)", -1.0)


class Task(NamedTuple):
    """One task.

    Attributes
    ----------
    vocab_size
        The least vocabulary that it needs.
    encoder
        Whether the model must have an encoder (True), must have none (False), or may (None).
    measure
        How its loss is reported.
    load
        (files) -> corpus, the built-in text for none.
    check
        (corpus, config, model_config): refuse a text that does not fit.
    draw, held_out
        (rng, data, config, model_config) -> Batch; (data, batch_size, config, model_config) ->
        batches of the whole text.
    baseline
        (corpus, config, model_config) -> its name and its value in the task's measure.
    """

    vocab_size: int
    encoder: bool | None
    measure: Measure
    load: Callable[[Sequence[str | Path]], Any]
    check: Callable[[Any, TrainConfig, ModelConfig], None]
    draw: Callable[[np.random.Generator, Any, TrainConfig, ModelConfig], Batch]
    held_out: Callable[[Any, int, TrainConfig, ModelConfig], Iterator[Batch]]
    baseline: Callable[[Any, TrainConfig, ModelConfig], tuple[str, float]]


def named(name: str) -> Task:
    """Return the task of this name.

    >>> named("span").vocab_size
    290
    """
    check.choice("task", name, list(TASKS))
    return TASKS[name]


def check_model(name: str, model_config: ModelConfig) -> None:
    """Refuse a model that cannot be asked this.

    >>> check_model("span", ModelConfig(vocab_size=290))
    Traceback (most recent call last):
    ValueError: num_encoder_layers must be at least 1 for the task 'span', got 0
    """
    task = named(name)
    if task.encoder and not model_config.encoder:
        raise ValueError(f"num_encoder_layers must be at least 1 for the task {name!r}, got 0")
    if task.encoder is False and model_config.encoder:
        raise ValueError(f"num_encoder_layers must be 0 for the task {name!r}, got "
                         f"{model_config.num_encoder_layers}")
    if model_config.vocab_size < task.vocab_size:
        raise ValueError(f"vocab_size must be at least {task.vocab_size} for the task {name!r}, "
                         f"got {model_config.vocab_size}")


def _check_bytes(corpus: Corpus, config: TrainConfig, model_config: ModelConfig) -> None:
    for name, data in (("training", corpus.train), ("held-out", corpus.held_out)):
        if len(data) <= config.seq_len:
            raise ValueError(f"text must leave more than seq_len, {config.seq_len}, bytes for its "
                             f"{name} part, got {len(data)}")


def _load_pairs(files: Sequence[str | Path]) -> PairCorpus:
    if not files:
        raise ValueError("text must be given for the task 'pairs': files with a pair a line, "
                         "source TAB target")
    return pairs.load(files)


def _form(model_config: ModelConfig) -> pairs.Form:
    return pairs.encoder_decoder if model_config.encoder else pairs.decoder_only


def _unigram(corpus: Any, config: TrainConfig, model_config: ModelConfig) -> tuple[str, float]:
    read = named(config.task).held_out
    train, held_out = (read(data, 64, config, model_config)
                       for data in (corpus.train, corpus.held_out))
    return "unigram", unigram.neg_log_perplexity(train, held_out)


TASKS = {
    "lm": Task(
        256, False, BITS, corpora.load, _check_bytes,
        lambda rng, data, config, _: objective.next_byte(
            rng, data, config.batch_size, config.seq_len),
        lambda data, size, config, _: objective.held_out(data, size, config.seq_len),
        lambda corpus, *_: ("byte bigram", corpora.bigram_bits_per_byte(corpus))),
    "span": Task(
        VOCAB_SIZE, True, PERPLEXITY, corpora.load,
        lambda corpus, config, _: span_corruption.check_text(
            corpus, config.seq_len, config.corruption, config.mean_span),
        lambda rng, data, config, _: span_corruption.missing_spans(
            rng, data, config.batch_size, config.seq_len, config.corruption, config.mean_span),
        lambda data, size, config, _: span_corruption.held_out(
            data, size, config.seq_len, config.corruption, config.mean_span),
        _unigram),
    "pairs": Task(
        VOCAB_SIZE, None, PERPLEXITY, _load_pairs,
        lambda corpus, config, model_config: pairs.check_lengths(
            corpus, config.seq_len, _form(model_config)),
        lambda rng, data, config, model_config: pairs.random_pairs(
            rng, data, config.batch_size, _form(model_config)),
        lambda data, size, config, model_config: pairs.held_out(data, size, _form(model_config)),
        _unigram),
}
