"""Training, one step at a time. It computes numbers and writes none; whoever calls it shows them.

All that a run depends on is in one `Run`: parameters, moments, the step, and the states of the two
generators that choose the text and draw the noise. So a run that was stopped, saved and loaded goes
on as if it had not been.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from switch_np import model
from switch_np.model import Loss
from switch_np.operations import check, tree
from switch_np.training import selective
from switch_np.training import adafactor, checkpoint, optimizer, tasks
from switch_np.training.adafactor import Adafactor
from switch_np.training.train_config import TrainConfig
from switch_np.training.corpus import Corpus
from switch_np.training.pairs import PairCorpus
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
        """The parameters as they compute, in training and after: rounded as `config.dtype` says."""
        return selective.stored(self.params, self.config.dtype)


def start(model_config: ModelConfig, config: TrainConfig, corpus: Corpus | PairCorpus,
          params: Mapping[str, Any] | None = None) -> Run:
    """Return a run before its first step.

    Parameters
    ----------
    model_config, config
        Of the model and of the training.
    corpus
        As the task loads it.
    params
        Start from these, which are copied: fine-tuning. None: draw them.

    Examples
    --------
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
        params = model.init(init_rng, model_config, dtype)
    else:
        check_params(params, model_config)
        params = tree.apply(lambda value: np.array(value, dtype), params)
    return Run(model_config, config, dict(params), _moments(params, config), text_rng, noise_rng,
               _text_id(corpus))


def advance(run: Run, corpus: Corpus | PairCorpus) -> tuple[Loss, float]:
    """Take one step, in place; return the loss before it, and the gradients' norm before clipping.

    Raises
    ------
    FloatingPointError
        Where loss or gradient is no longer finite; the parameters stay as they were.
    """
    begin = time.perf_counter()
    batch = tasks.named(run.config.task).draw(
        run.text_rng, corpus.train, run.config, run.model_config)
    return update(run, begin, lambda params: model.loss_and_grads(
        params, batch, run.model_config, rng=run.noise_rng, training=True))


def update(run: Run, begin: float, loss_and_grads: Callable[[dict[str, Any]], tuple[
        Loss, dict[str, Any]]]) -> tuple[Loss, float]:
    """Take one step, in place, on any loss; return and raise what `advance` does.

    Parameters
    ----------
    run
        The run.
    begin
        When the step's work began, by `time.perf_counter`.
    loss_and_grads
        Makes both of the parameters as they compute: `run.stored`.
    """
    config = run.config
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            loss, grads = loss_and_grads(run.stored)
            grads, norm = optimizer.clip(selective.gradients(grads), config.max_norm)
        if not (math.isfinite(loss.total) and math.isfinite(norm)):
            raise ValueError(f"loss {loss.total}, gradient norm {norm}")
    except ValueError as error:       # the batch is ours and fits, so it is the numbers
        raise FloatingPointError(f"not finite at step {run.step + 1}: try a lower learning rate "
                                 f"({error})") from error
    run.step += 1
    rate = optimizer.learning_rate(run.step, config.steps, config.warmup, config.learning_rate)
    rule = adafactor if isinstance(config.optimizer, Adafactor) else optimizer
    rule.step(run.params, grads, run.moments, config.optimizer, rate, run.step)
    run.seconds += time.perf_counter() - begin
    return loss, norm


def evaluate(run: Run, data: Any, rows_at_once: int = 32) -> float:
    """Return the loss on a held-out text, all of it, in the measure of the run's task.

    Bits per byte for "lm"; for the other tasks the negative log perplexity in nats per token, as
    the paper has it. The evaluation capacity factor holds, and no noise but what the Switch layers'
    conventions draw outside training too: that comes from a generator of its own, always the same.
    """
    task = tasks.named(run.config.task)
    nats = tokens = 0.0
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
    """Return the run that `save` wrote.

    With a corpus, refuse to go on with another text than the run began with.
    """
    arrays, state = checkpoint.load(path)
    try:
        model_config = ModelConfig.from_dict(state["model"])
        config = TrainConfig.from_dict(state["training"])
        check_params(arrays["params"], model_config)
        _check_moments(arrays["moments"], _moments(arrays["params"], config))
        run = Run(model_config, config, arrays["params"], arrays["moments"],
                  _generator(state["text_rng"]), _generator(state["noise_rng"]),
                  state["text_id"], state["step"], state["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint must hold one run of one model, got {path}, where "
                         f"{error}") from error
    if corpus is not None and _text_id(corpus) != run.text_id:
        raise ValueError(f"text must be the one that the run began with, got another for {path}")
    return run


def _moments(params: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Return the moments before the first step, by the rule that the options belong to."""
    if isinstance(config.optimizer, Adafactor):
        return adafactor.init(params, config.optimizer)
    return optimizer.init(params)


def _check_moments(moments: Mapping[str, Any], like: Mapping[str, Any]) -> None:
    flat, wanted = tree.flatten(moments), tree.flatten(like)
    check.keys("moments", flat, set(wanted))
    for name, value in wanted.items():
        check.floats(f"moments[{name!r}]", flat[name], value.shape, like=value)


def _generator(state: Mapping[str, Any]) -> np.random.Generator:
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return rng


def _text_id(corpus: Corpus | PairCorpus) -> str:
    digest = hashlib.sha256()
    for part in corpus:
        digest.update(part.tobytes() if isinstance(part, np.ndarray)
                      else b"".join(b"%b\t%b\n" % pair for pair in part))
    return digest.hexdigest()
