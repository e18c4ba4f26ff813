"""The three tasks as the trainer sees them, and the unigram baseline."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations import check
from switch_np.training import corpus as corpora, objective, pairs, span_corruption
from switch_np.training.train_config import TrainConfig
from switch_np.training.vocabulary import VOCAB_SIZE
from switch_np.transformer.batch import Batch
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.cross_entropy import IGNORED


class Measure(NamedTuple):
    """How the held-out cross-entropy is reported: name, description, and factor per nat."""

    column: str
    description: str
    scale: float


BITS = Measure("bits_per_byte", "bits per byte", 1 / math.log(2))
PERPLEXITY = Measure("neg_log_perplexity", "negative log perplexity (nats per token)", -1.0)


class Task(NamedTuple):
    """A task: its data, batches, measure and baseline."""

    vocab_size: int                     # the smallest that will do
    encoder: bool | None                # whether the model must have one; None: it may
    measure: Measure
    load: Callable[[Sequence[str | Path]], Any]                      # the corpus in these files
    check: Callable[[Any, TrainConfig, ModelConfig], None]           # refuse a corpus
    draw: Callable[[np.random.Generator, Any, TrainConfig, ModelConfig], Batch]      # for a step
    held_out: Callable[[Any, int, TrainConfig, ModelConfig], Iterator[Batch]]        # in order
    baseline: Callable[[Any, TrainConfig, ModelConfig], tuple[str, float]]     # name, in `measure`


def named(name: str) -> Task:
    """Return the task of this name."""
    check.choice("task", name, list(TASKS))
    return TASKS[name]


def check_model(name: str, model_config: ModelConfig) -> None:
    """Refuse a model that does not fit the task.

    >>> check_model("span", ModelConfig(vocab_size=290))
    Traceback (most recent call last):
    ValueError: num_encoder_layers must be at least 1 for the task 'span', got 0
    """
    task = named(name)
    if task.encoder not in (None, model_config.encoder is not None):
        raise ValueError(f"num_encoder_layers must be {'at least 1' if task.encoder else '0'} for "
                         f"the task {name!r}, got {model_config.num_encoder_layers}")
    if model_config.vocab_size < task.vocab_size:
        raise ValueError(f"vocab_size must be at least {task.vocab_size} for the task {name!r}, "
                         f"got {model_config.vocab_size}")


def unigram(train: Iterable[Batch], held_out: Iterable[Batch], smoothing: float = 0.1) -> float:
    """Return the mean log-probability, in nats, of the held-out targets without any context.

    P(v) = (count(v) + smoothing) / (count + V smoothing), counted in the training targets; the
    default is close to the best for missing spans of the built-in text.

    >>> even = [Batch(inputs=np.zeros((1, 2), int), targets=np.array([[7, 8]]))] * 1000
    >>> round(unigram(even, even, smoothing=0.0), 4)        # -log 2
    -0.6931
    """
    check.number("smoothing", smoothing, 0)
    train_V, held_out_V = _target_counts(train), _target_counts(held_out)
    smooth_V = train_V + smoothing
    with np.errstate(divide="ignore"):       # without smoothing an unseen id has probability 0
        log_probs_V = np.log(smooth_V / smooth_V.sum())
    seen_V = held_out_V > 0
    return float((held_out_V[seen_V] * log_probs_V[seen_V]).sum() / held_out_V.sum())


def _target_counts(batches: Iterable[Batch]) -> np.ndarray:
    counts_V = np.zeros(VOCAB_SIZE)
    for batch in batches:
        counts_V += np.bincount(batch.targets[batch.targets != IGNORED], minlength=VOCAB_SIZE)
    if not counts_V.any():
        raise ValueError("batches must hold at least one target that counts, got none")
    return counts_V


def _unigram(corpus: Any, config: TrainConfig, model_config: ModelConfig) -> tuple[str, float]:
    train, held_out = (named(config.task).held_out(data, 64, config, model_config)
                       for data in corpus)
    return "unigram", unigram(train, held_out)


def _spans(config: TrainConfig) -> tuple[int, float, float]:
    return config.seq_len, config.corruption, config.mean_span


def _form(model_config: ModelConfig) -> pairs.Form:
    return pairs.encoder_decoder if model_config.encoder else pairs.decoder_only


TASKS = {
    "lm": Task(
        256, False, BITS, corpora.load,
        lambda corpus, c, _: corpora.check_lengths(corpus, c.seq_len + 1, "seq_len + 1"),
        lambda rng, data, c, _: objective.next_byte(rng, data, c.batch_size, c.seq_len),
        lambda data, size, c, _: objective.held_out(data, size, c.seq_len),
        lambda corpus, *_: ("byte bigram", corpora.bigram_bits_per_byte(corpus))),
    "span": Task(
        VOCAB_SIZE, True, PERPLEXITY, corpora.load,
        lambda corpus, c, _: span_corruption.check_text(corpus, *_spans(c)),
        lambda rng, data, c, _: span_corruption.missing_spans(rng, data, c.batch_size, *_spans(c)),
        lambda data, size, c, _: span_corruption.held_out(data, size, *_spans(c)),
        _unigram),
    "pairs": Task(
        VOCAB_SIZE, None, PERPLEXITY, pairs.load,
        lambda corpus, c, model: pairs.check_lengths(corpus, c.seq_len, _form(model)),
        lambda rng, data, c, model: pairs.random_pairs(rng, data, c.batch_size, _form(model)),
        lambda data, size, _, model: pairs.held_out(data, size, _form(model)),
        _unigram),
}
