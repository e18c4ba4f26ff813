"""The training loop, one step at a time. It prints and plots nothing; that is up to the caller.

All that a run depends on is in one `Run`, generators included: a run that was stopped, saved and
loaded continues as if it had never stopped.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from switch_np import model
from switch_np.operations import check, tree
from switch_np.training import adafactor, checkpoint, optimizer, selective, tasks
from switch_np.training.corpus import Corpus
from switch_np.training.pairs import PairCorpus
from switch_np.training.train_config import TrainConfig
from switch_np.transformer.checks import check_params
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.cross_entropy import IGNORED


@dataclass
class Run:
    """A training run between two steps; `step` counts those done, `seconds` the time they took."""

    model_config: ModelConfig
    config: TrainConfig
    params: dict[str, Any]
    moments: dict[str, Any]
    text_rng: np.random.Generator
    noise_rng: np.random.Generator
    text_id: str
    step: int = 0
    seconds: float = 0.0

    @property
    def stored(self) -> dict[str, Any]:
        """The parameters as they compute, rounded as `config.dtype` says."""
        return selective.stored(self.params, self.config.dtype)


def start(model_config: ModelConfig, config: TrainConfig, corpus: Corpus | PairCorpus,
          params: Mapping[str, Any] | None = None) -> Run:
    """Return a run before its first step, on a corpus that the task loaded.

    `params` are copied, for fine-tuning; without them parameters are drawn.

    >>> text = np.frombuffer(b"to be or not to be " * 20, np.uint8)
    >>> corpus = Corpus(text[:300], text[300:])
    >>> run = start(ModelConfig(num_layers=2), TrainConfig(seq_len=16), corpus)
    >>> losses = [float(advance(run, corpus)[0].cross_entropy) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """
    tasks.check_model(config.task, model_config)
    tasks.named(config.task).check(corpus, config, model_config)
    init_rng, text_rng, noise_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(3))
    dtype = np.float64 if config.dtype == "float64" else np.float32
    if params is None:
        own = model.init(init_rng, model_config, dtype)
    else:
        check_params(params, model_config, finite=True)
        own = tree.apply(lambda value: np.array(value, dtype), params)
    return Run(model_config, config, own, _moments(own, config), text_rng, noise_rng,
               _text_id(corpus))


def advance(run: Run, corpus: Corpus | PairCorpus) -> tuple[model.Loss, float]:
    """Take one step, in place; return the loss before it, and the gradients' norm before clipping.

    Raises FloatingPointError, with the run as it was, if loss or gradients are not finite.
    """
    begin, rngs = time.perf_counter(), (run.text_rng.bit_generator, run.noise_rng.bit_generator)
    before = [rng.state for rng in rngs]
    task = tasks.named(run.config.task)
    try:
        batch = task.draw(run.text_rng, corpus.train, run.config, run.model_config)
        return update(run, begin, lambda params: model.loss_and_grads(
            params, batch, run.model_config, rng=run.noise_rng, training=True))
    except BaseException:
        for rng, state in zip(rngs, before):
            rng.state = state
        raise


def update(run: Run, begin: float,
           loss_and_grads: Callable[[dict[str, Any]], tuple[model.Loss, dict[str, Any]]]
           ) -> tuple[model.Loss, float]:
    """Take one step, in place, on any function of `run.stored`; return and raise as `advance`.

    `begin` is the time at which the step's work began, by `time.perf_counter`.
    """
    config = run.config
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            loss, grads = loss_and_grads(run.stored)
            grads, norm = optimizer.clip(selective.gradients(grads), config.max_norm)
        if not math.isfinite(loss.total):
            raise check.NotFinite(f"loss must be finite, got {loss.total}")
    except check.NotFinite as error:
        raise FloatingPointError(f"not finite at step {run.step + 1}: try a lower learning rate "
                                 f"({error})") from error
    run.step += 1
    rate = optimizer.learning_rate(run.step, config.steps, config.warmup, config.learning_rate)
    method = adafactor if isinstance(config.optimizer, adafactor.Adafactor) else optimizer
    method.step(run.params, grads, run.moments, config.optimizer, rate, run.step)
    run.seconds += time.perf_counter() - begin
    return loss, norm


def evaluate(run: Run, data: Any, rows_at_once: int = 32) -> float:
    """Return the loss on all held-out data, in the task's measure, with the evaluation capacity.

    Noise that conventions draw outside training too is the same every time.
    """
    check.integer("rows_at_once", rows_at_once, 1)
    task, nats, tokens = tasks.named(run.config.task), 0.0, 0
    params, rng = run.stored, np.random.default_rng(run.config.seed)
    for batch in task.held_out(data, rows_at_once, run.config, run.model_config):
        loss = model.loss(params, batch, run.model_config, rng=rng)
        counted = int((batch.targets != IGNORED).sum())
        nats += float(loss.cross_entropy) * counted
        tokens += counted
    return nats / tokens * task.measure.scale


def save(run: Run, path: str | Path) -> None:
    """Write a run to one file."""
    checkpoint.save(path, {"params": run.params, "moments": run.moments}, {
        "model": run.model_config.to_dict(), "training": asdict(run.config), "step": run.step,
        "seconds": run.seconds, "text_id": run.text_id,
        "text_rng": run.text_rng.bit_generator.state,
        "noise_rng": run.noise_rng.bit_generator.state})


def load(path: str | Path, corpus: Corpus | PairCorpus | None = None) -> Run:
    """Return the run that `save` wrote; a corpus other than the one it began with is refused."""
    arrays, state = checkpoint.load(path)
    try:
        model_config = ModelConfig.from_dict(state["model"])
        config = TrainConfig.from_dict(state["training"])
        check_params(arrays["params"], model_config, finite=True)
        check.alike("moments", arrays["moments"], _moments(arrays["params"], config), finite=True)
        run = Run(model_config, config, arrays["params"], arrays["moments"],
                  np.random.default_rng(), np.random.default_rng(), state["text_id"],
                  state["step"], state["seconds"])
        run.text_rng.bit_generator.state = state["text_rng"]
        run.noise_rng.bit_generator.state = state["noise_rng"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint must hold one run of one model, got {path}, where "
                         f"{error}") from error
    if corpus is not None and _text_id(corpus) != run.text_id:
        raise ValueError(f"text must be the one that the run began with, got another for {path}")
    return run


def _moments(params: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Return the optimizer's moments before the first step."""
    if isinstance(config.optimizer, adafactor.Adafactor):
        return adafactor.init(params, config.optimizer)
    return optimizer.init(params)


def _text_id(corpus: Corpus | PairCorpus) -> str:
    digest = hashlib.sha256()
    for data in corpus:
        digest.update(data.tobytes() if isinstance(data, np.ndarray)
                      else b"".join(b"%b\t%b\n" % pair for pair in data))
    return digest.hexdigest()
