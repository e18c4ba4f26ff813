"""The training loop, one step at a time. It prints and plots nothing; that is up to the caller.

Everything that a run depends on is in one `Run`, generators included: a run that is stopped, saved
and loaded continues as if it had never stopped.
"""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np import model
from switch_np.conventions import selection_bias
from switch_np.operations import check, reading, tree
from switch_np.switch.plan import Plan
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
    numbers_id: str = ""      # fingerprint of the numbers kept in a file beside the checkpoint

    @property
    def stored(self) -> dict[str, Any]:
        """The parameters as they compute, rounded as `config.dtype` says."""
        return selective.stored(self.params, self.config.dtype)


class Means(NamedTuple):
    """How to compute numbers over all parameters, of which a process may hold only a part."""

    square_sum: Callable[[Mapping[str, Any]], float] = optimizer.square_sum
    rms: Callable[[np.ndarray], float] = adafactor.rms


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
    if config.bias_rate and not model_config.switch.conventions.select_bias:
        raise ValueError(f"bias_rate must be 0 with select_bias=False, got {config.bias_rate}")
    init_rng, text_rng, noise_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(3))
    dtype = config.stored_dtype
    if params is None:
        own = model.init(init_rng, model_config, dtype)
    else:
        check_params(params, model_config, finite=True)
        own = tree.packed(tree.apply(lambda value: value.astype(dtype, copy=False), params))
    return Run(model_config, config, own, _moments(own, config), text_rng, noise_rng,
               _text_id(corpus))


def advance(run: Run, corpus: Corpus | PairCorpus,
            loss_and_grads: Callable[..., tuple[model.Loss, dict[str, Any]]] | None = None,
            means: Means = Means()) -> tuple[model.Loss, float]:
    """Take one step, in place; return the loss before it, and the gradients' norm before clipping.

    Raises FloatingPointError, with the run as it was, if loss or gradients are not finite.
    `loss_and_grads` replaces the model's where other processes hold parts of the run.
    """
    begin, rngs = time.perf_counter(), (run.text_rng.bit_generator, run.noise_rng.bit_generator)
    before = [rng.state for rng in rngs]
    task = tasks.named(run.config.task)
    try:
        batch = task.draw(run.text_rng, corpus.train, run.config, run.model_config)
        return update(run, begin, lambda params: (loss_and_grads or model.loss_and_grads)(
            params, batch, run.model_config, rng=run.noise_rng, training=True), means)
    except BaseException:
        for rng, state in zip(rngs, before):
            rng.state = state
        raise


def update(run: Run, begin: float,
           loss_and_grads: Callable[[dict[str, Any]], tuple[model.Loss, dict[str, Any]]],
           means: Means = Means()) -> tuple[model.Loss, float]:
    """Take one step, in place, on any function of `run.stored`; return and raise as `advance`.

    `begin` is the time at which the step's work began, by `time.perf_counter`.
    """
    config, count = run.config, run.step + 1
    with _finite(count):
        loss, grads = loss_and_grads(run.stored)
        grads, norm = optimizer.clip(selective.gradients(grads), config.max_norm,
                                     means.square_sum)
        if not math.isfinite(loss.total):
            raise check.NotFinite(f"loss must be finite, got {loss.total}")
        rate = optimizer.learning_rate(count, config.steps, config.warmup, config.learning_rate)
        if isinstance(config.optimizer, adafactor.Adafactor):
            adafactor.step(run.params, grads, run.moments, config.optimizer, rate, count,
                           means.rms)
        else:
            optimizer.step(run.params, grads, run.moments, config.optimizer, rate, count)
    if config.bias_rate:
        _move_biases(run, loss.plans)
    run.step = count
    run.seconds += time.perf_counter() - begin
    return loss, norm


def _move_biases(run: Run, plans: Iterable[Plan]) -> None:
    """Move each Switch layer's bias for selection against the loads of a step."""
    for name, plan in zip(run.model_config.switch_names, plans):
        stack, layer, *part = name.split(".")
        block = run.params[stack][layer]
        switch = block["attention"][f"switch_{part[0]}"] if part else block["switch"]
        bias_E = switch["select_bias"]
        bias_E[:] = selection_bias.updated(bias_E, plan.load.sum(axis=0), run.config.bias_rate)


@contextmanager
def _finite(step: int) -> Iterator[None]:
    """Raise FloatingPointError, with the step, where a check finds NaN or infinity."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except check.NotFinite as error:
        raise FloatingPointError(f"not finite at step {step}: try a lower learning rate "
                                 f"({error})") from error


def evaluate(run: Run, data: Any, rows_at_once: int = 32,
             loss_of: Callable[..., model.Loss] | None = None) -> float:
    """Return the loss on all held-out data, in the task's measure, with the evaluation capacity.

    Noise that conventions draw outside training too is the same every time.
    """
    check.integer("rows_at_once", rows_at_once, 1)
    task, nats, tokens = tasks.named(run.config.task), 0.0, 0
    params, rng = run.stored, np.random.default_rng(run.config.seed)
    for batch in task.held_out(data, rows_at_once, run.config, run.model_config):
        with _finite(run.step):
            loss = (loss_of or model.loss)(params, batch, run.model_config, rng=rng)
        counted = int((batch.targets != IGNORED).sum())
        nats += float(loss.cross_entropy) * counted
        tokens += counted
    return nats / tokens * task.measure.scale


def save(run: Run, path: str | Path) -> None:
    """Write a run to one file; if its parameters are not finite, an earlier one stays."""
    with _finite(run.step):
        check_params(run.params, run.model_config, finite=True)
    checkpoint.save(path, {"params": run.params, "moments": run.moments}, {
        "model": run.model_config.to_dict(), "training": asdict(run.config), "step": run.step,
        "seconds": run.seconds, "text_id": run.text_id, "numbers_id": run.numbers_id,
        "text_rng": run.text_rng.bit_generator.state,
        "noise_rng": run.noise_rng.bit_generator.state, "numpy": np.__version__,
        "next": [_next(run.text_rng), _next(run.noise_rng)]})


def load(path: str | Path, corpus: Corpus | PairCorpus | None = None) -> Run:
    """Return the run that `save` wrote.

    Given a corpus, the run is to go on: a corpus other than its own is refused, and so is a NumPy
    that would draw other random numbers.
    """
    arrays, state = checkpoint.load(path)
    with reading.naming(path, "a checkpoint of a training run"):
        model_config = ModelConfig.from_dict(state["model"])
        config = TrainConfig.from_dict(state["training"])
        check.keys("arrays", arrays, {"params", "moments"})
        check_params(arrays["params"], model_config, finite=True)
        stored = arrays["params"]["embedding"]["table"].dtype
        check.choice("dtype", str(stored), [str(config.stored_dtype)])
        params = tree.packed(arrays["params"])
        moments = _moments(params, config)
        check.alike("moments", arrays["moments"], moments, finite=True)
        tree.apply(np.copyto, moments, arrays["moments"])
        check.integer("step", state["step"], 0)
        check.number("step", state["step"], 0, config.steps + 1)
        check.number("seconds", state["seconds"], 0)
        run = Run(model_config, config, params, moments,
                  _generator(state["text_rng"]), _generator(state["noise_rng"]), state["text_id"],
                  state["step"], state["seconds"], state.get("numbers_id", ""))
        drawn = [_next(run.text_rng), _next(run.noise_rng)]
    if corpus is None:
        return run
    if _text_id(corpus) != run.text_id:
        raise ValueError(f"text must be the one that the run began with, got another for {path}")
    if drawn != state.get("next", drawn):
        raise ValueError(f"{path} must go on with the random numbers of NumPy "
                         f"{state.get('numpy')}, got NumPy {np.__version__}, which draws others")
    return run


def _generator(state: Mapping[str, Any]) -> np.random.Generator:
    """Return a generator in a saved state, of the kind that the state names."""
    check.choice("bit_generator", state["bit_generator"], ["PCG64", "PCG64DXSM"])
    rng = np.random.Generator(getattr(np.random, state["bit_generator"])())
    rng.bit_generator.state = state
    return rng


def _next(rng: np.random.Generator) -> list[float]:
    """Return what a generator would draw next, of each kind that a run uses, without drawing it."""
    rng = copy.deepcopy(rng)
    return [float(number) for number in (
        rng.integers(1000), rng.random(), rng.random(dtype=np.float32), rng.standard_normal(),
        *rng.permuted(np.arange(9)))]


def _moments(params: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    if isinstance(config.optimizer, adafactor.Adafactor):
        return adafactor.init(params, config.optimizer)
    return optimizer.init(params)


def _text_id(corpus: Corpus | PairCorpus) -> str:
    digest = hashlib.sha256()
    for data in corpus:
        digest.update(data.tobytes() if isinstance(data, np.ndarray)
                      else b"".join(b"%b\t%b\n" % pair for pair in data))
    return digest.hexdigest()
