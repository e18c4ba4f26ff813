"""`python -m switch_np train`: train, show how it goes, and leave numbers and pictures behind."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from switch_np.commands import run_folder as folders, options, progress, terminal, writing
from switch_np.commands.run_folder import Metrics
from switch_np.commands.options import add_arguments
from switch_np.operations import files
from switch_np.training import tasks, trainer
from switch_np.training.trainer import Run

__all__ = ["add_arguments", "run"]
EVALUATIONS = 5       # times that the held-out text is read during a run
SAVE_SECONDS = 30     # at most this much work is lost when the machine stops


def run(args: argparse.Namespace) -> int:
    """Train to the end, or until Ctrl-C; both leave a checkpoint and the pictures."""
    state, corpus, folder = _resumed(args) if args.resume else _started(args)
    metrics = Metrics(folder / "metrics.csv", state)
    progress.say_start(state, corpus, folder)
    finished = _train(state, corpus, metrics, folder)
    _leave(state, corpus, metrics, folder, finished)
    return 0


def _resumed(args: argparse.Namespace) -> tuple[Run, Any, Path]:
    """Return the run to go on with; its own options hold."""
    for name, value in options.given(args.words).items():
        if name not in ("resume", "name"):
            raise ValueError(f"--resume goes on with the run's own options, "
                             f"got --{name.replace('_', '-')} {value}")
    folder = folders.existing(args.name)
    config = folders.read_config(folder)
    corpus = tasks.named(config["training"].get("task", "lm")).load(config["text"])
    return trainer.load(folder / "checkpoint.npz", corpus), corpus, folder


def _started(args: argparse.Namespace) -> tuple[Run, Any, Path]:
    """Return a new run, from scratch or from the parameters of another."""
    folder, base = folders.new(args.name), None
    if args.start_from is not None:
        base = trainer.load(folders.existing(args.start_from) / "checkpoint.npz")
    known = None if base is None else base.model_config
    configs = options.configs(options.given(args.words), known)
    if base is not None:
        _check_base(args, base)
    corpus = tasks.named(args.task).load(args.text)
    state = trainer.start(*configs, corpus, params=None if base is None else base.params)
    folders.write_config(folder, state, args.text)
    return state, corpus, folder


def _check_base(args: argparse.Namespace, base: Run) -> None:
    """Refuse a run whose model cannot be asked the task."""
    try:
        tasks.check_model(args.task, base.model_config)
    except ValueError as error:
        raise ValueError(f"--from must name a run whose model suits --task {args.task}, got "
                         f"{args.start_from!r}, of --task {base.config.task}: {error}") from error


def _train(state: Run, corpus: Any, metrics: Metrics, folder: Path) -> bool:
    """Advance to the last step; return False if a signal asked to stop before it."""
    line = progress.Line(state)
    every = max(state.config.steps // EVALUATIONS, 1)
    saved = state.seconds
    with terminal.asked_to_stop() as asked:
        try:
            while state.step < state.config.steps and not asked():
                loss, norm = trainer.advance(state, corpus)
                measured = None
                if state.step % every == 0 or state.step == state.config.steps:
                    measured = trainer.evaluate(state, corpus.held_out)
                metrics.add(state, loss, norm, measured)
                line.show(state, loss, measured)
                if state.seconds > saved + SAVE_SECONDS:
                    saved = state.seconds
                    _save(state, metrics, folder)
        finally:
            line.close()
            _save(state, metrics, folder)
    return state.step == state.config.steps


def _save(state: Run, metrics: Metrics, folder: Path) -> None:
    """Write metrics before the checkpoint, so that a checkpoint always has its rows."""
    metrics.write()
    trainer.save(state, folder / "checkpoint.npz")


def _leave(state: Run, corpus: Any, metrics: Metrics, folder: Path, finished: bool) -> None:
    """Draw, let the model write, and say where all is."""
    task = tasks.named(state.config.task)
    baseline = task.baseline(corpus, state.config, state.model_config)
    held_out = metrics.column(f"held_out_{task.measure.column}")
    measured = float(held_out[-1]) if finished else trainer.evaluate(state, corpus.held_out)
    try:
        progress.draw(state, corpus, metrics, folder, measured, baseline)
    except ImportError:
        print("matplotlib is not installed: no pictures are drawn")
    text = writing.visible(writing.example(state, corpus.held_out))
    files.write_text(folder / "sample.txt", text + "\n")
    progress.say_end(state, folder, measured, baseline, text, finished)
