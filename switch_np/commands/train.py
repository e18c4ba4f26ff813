"""`python -m switch_np train`: train, show progress, and write numbers and pictures."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from switch_np.commands import (
    generated_text, progress, ranks, run_folder, terminal, train_options)
from switch_np.commands.ranks import Alone
from switch_np.operations import files
from switch_np.training import corpus as corpora, tasks, trainer
from switch_np.training.trainer import Run

add_arguments = train_options.add_arguments
EVALUATIONS = 5       # on the held-out text during a run
SAVE_SECONDS = 30     # at most this much work is lost when the machine stops


def run(args: argparse.Namespace) -> int:
    """Train to the end and draw, or until a signal asks to stop; both leave a checkpoint."""
    options = {name: value for name, value in vars(args).items() if name != "command"}
    with ranks.team(options) as team:
        opened = _resumed if "resume" in options else _started
        with opened(options, team) as (whole, corpus, folder), terminal.signals() as signals:
            state = team.part(whole)
            metrics = run_folder.Metrics(folder / "metrics.csv", state)
            try:
                progress.print_start(whole, corpus, folder)
                _train(state, corpus, metrics, folder, signals, team)
                _report(team.whole(state), corpus, metrics, folder, signals, team)
            except team.ends as end:                                         # between two steps
                _save(state, metrics, folder, team)
                if not isinstance(end, terminal.Stopped):
                    raise
                progress.print_stopped(state, folder)
    return 0


@contextmanager
def _resumed(options: dict[str, Any], team: Alone) -> Iterator[tuple[Run, Any, Path]]:
    """Hold the run to resume, with its own options."""
    for name in sorted(options.keys() - {"resume", "name"}):
        raise ValueError(f"--resume keeps the run's own options, got {train_options.flag(name)} "
                         f"{options[name]}; --from RUN trains its model on under new ones")
    given = options.get("name")
    with (run_folder.resumed(given) if team.leads
          else nullcontext(run_folder.existing(given))) as folder:
        config = run_folder.read_config(folder)
        corpus = _load(config.training.task, config.text)
        state = trainer.load(folder / "checkpoint.npz", corpus)
        run_folder.check_config(folder, config, state)
        yield state, corpus, folder


@contextmanager
def _started(options: dict[str, Any], team: Alone) -> Iterator[tuple[Run, Any, Path]]:
    """Hold a new run, from scratch or from the parameters of another."""
    texts = options.get("text", [])
    base = (trainer.load(run_folder.existing(options["from"]) / "checkpoint.npz")
            if "from" in options else None)
    model_config, config = train_options.configs(options, base)
    corpus = _load(config.task, texts)
    state = trainer.start(team.config(model_config), config, corpus, base.params if base else None)
    with run_folder.new(options.get("name")) if team.leads else nullcontext(Path()) as folder:
        if team.leads:
            run_folder.write_config(folder, state, texts)
        yield state, corpus, folder


def _load(task: str, texts: Sequence[str]) -> Any:
    """Load the text, and say so if it is not the one that most Pythons have."""
    corpus = tasks.named(task).load(texts)
    if not texts and corpora.language_reference() is None:
        print("this Python has no pydoc_data: the text is the docstrings of switch_np")
    return corpus


def _train(state: Run, corpus: Any, metrics: run_folder.Metrics, folder: Path,
           signals: terminal.Signals, team: Alone) -> None:
    """Advance to the last step; the first signal waits for the end of a step, not of the rest."""
    line, saved, steps = progress.Line(state), state.seconds, state.config.steps
    loss, every = None, max(steps // EVALUATIONS, 1)
    try:
        while True:
            due = state.step and (state.step % every == 0 or state.step == steps)
            if due and metrics.held_out is None:
                metrics.held_out = team.evaluate(state, corpus.held_out)
            if loss is not None:
                line.show(state, loss, metrics.held_out, team.status())
            if state.step == steps:
                return _save(state, metrics, folder, team)
            with team.step(signals):
                loss, norm = team.advance(state, corpus)
                metrics.add(loss, norm)
            due, asked = team.anywhere(team.leads and state.seconds > saved + SAVE_SECONDS,
                                       signals.asked())
            if asked:
                raise terminal.Stopped
            if due:
                saved = state.seconds
                _save(state, metrics, folder, team)
    finally:
        line.close()


def _save(state: Run, metrics: run_folder.Metrics, folder: Path, team: Alone) -> None:
    """Write metrics before the checkpoint, so that a checkpoint always has its rows."""
    if team.leads:
        metrics.write()
    whole = team.whole(state)
    if team.leads:
        trainer.save(whole, folder / "checkpoint.npz")


def _report(state: Run, corpus: Any, metrics: run_folder.Metrics, folder: Path,
            signals: terminal.Signals, team: Alone) -> None:
    """Draw, let the model write, and say where everything is."""
    if not team.leads:
        return
    task = tasks.named(state.config.task)
    baseline = task.baseline(corpus, state.config, state.model_config)
    held_out = metrics.held_out
    assert held_out is not None
    try:
        with signals.through_c():             # matplotlib's says "Invalid bounding box" instead
            progress.draw(state, corpus, metrics, folder, held_out, baseline)
    except ImportError:
        print("matplotlib is not installed: no pictures are drawn")
    text = generated_text.visible(generated_text.example(state, corpus.held_out))
    files.write_text(folder / "sample.txt", text + "\n")
    progress.print_end(state, folder, held_out, baseline, text)
