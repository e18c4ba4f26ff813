"""`python -m switch_np train`: train, show how it goes, and leave numbers and pictures behind."""

import argparse
from pathlib import Path
from typing import Any

from switch_np.commands import generated_text, progress, run_folder, terminal, train_options
from switch_np.operations import files
from switch_np.training import tasks, trainer
from switch_np.training.trainer import Run

add_arguments = train_options.add_arguments
EVALUATIONS = 5       # on the held-out text during a run
SAVE_SECONDS = 30     # at most this much work is lost when the machine stops


def run(args: argparse.Namespace) -> int:
    """Train to the end, or until Ctrl-C; both leave a checkpoint and the pictures."""
    options = {name: value for name, value in vars(args).items() if name != "command"}
    state, corpus, folder = (_resumed if "resume" in options else _started)(options)
    metrics = run_folder.Metrics(folder / "metrics.csv", state)
    progress.print_start(state, corpus, folder)
    _train(state, corpus, metrics, folder)
    _report(state, corpus, metrics, folder)
    return 0


def _resumed(options: dict[str, Any]) -> tuple[Run, Any, Path]:
    """Return the run to go on with; its own options hold."""
    for name in sorted(options.keys() - {"resume", "name"}):
        raise ValueError(f"--resume goes on with the run's own options, got "
                         f"{train_options.flag(name)} {options[name]}")
    folder = run_folder.existing(options.get("name"))
    config = run_folder.read_config(folder)
    corpus = tasks.named(config["training"].get("task", "lm")).load(config["text"])
    state = trainer.load(folder / "checkpoint.npz", corpus)
    run_folder.check_config(folder, config, state)
    return state, corpus, folder


def _started(options: dict[str, Any]) -> tuple[Run, Any, Path]:
    """Return a new run, from scratch or from the parameters of another."""
    folder, texts = run_folder.new(options.get("name")), options.get("text", [])
    base = (trainer.load(run_folder.existing(options["from"]) / "checkpoint.npz")
            if "from" in options else None)
    model_config, config = train_options.configs(options, base)
    corpus = tasks.named(config.task).load(texts)
    state = trainer.start(model_config, config, corpus, base.params if base else None)
    run_folder.write_config(folder, state, texts)
    return state, corpus, folder


def _train(state: Run, corpus: Any, metrics: run_folder.Metrics, folder: Path) -> None:
    """Advance to the last step, or until a signal asks to stop."""
    line, saved, steps = progress.Line(state), state.seconds, state.config.steps
    with terminal.asked_to_stop() as asked:
        try:
            while state.step < steps and not asked():
                loss, norm = trainer.advance(state, corpus)
                due = state.step % max(steps // EVALUATIONS, 1) == 0 or state.step == steps
                held_out = trainer.evaluate(state, corpus.held_out) if due else None
                metrics.add(state, loss, norm, held_out)
                line.show(state, loss, held_out)
                if state.seconds > saved + SAVE_SECONDS:
                    saved = state.seconds
                    _save(state, metrics, folder)
        finally:
            line.close()
            _save(state, metrics, folder)


def _save(state: Run, metrics: run_folder.Metrics, folder: Path) -> None:
    """Write metrics before the checkpoint, so that a checkpoint always has its rows."""
    metrics.write()
    trainer.save(state, folder / "checkpoint.npz")


def _report(state: Run, corpus: Any, metrics: run_folder.Metrics, folder: Path) -> None:
    """Draw, let the model write, and say where everything is."""
    task = tasks.named(state.config.task)
    baseline = task.baseline(corpus, state.config, state.model_config)
    held_out = (float(metrics.column(metrics.columns[-1])[-1])
                if state.step == state.config.steps else trainer.evaluate(state, corpus.held_out))
    try:
        progress.draw(state, corpus, metrics, folder, held_out, baseline)
    except ImportError:
        print("matplotlib is not installed: no pictures are drawn")
    text = generated_text.visible(generated_text.example(state, corpus.held_out))
    files.write_text(folder / "sample.txt", text + "\n")
    progress.print_end(state, folder, held_out, baseline, text)
