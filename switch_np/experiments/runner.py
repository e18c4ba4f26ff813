"""One run of an experiment: an arm and a seed, trained to the end, or stopped and resumed later.

The measured numbers are written before the checkpoint, so a checkpoint always has its numbers.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.experiments.experiment import Arm
from switch_np.operations import check, files, reading
from switch_np.training import trainer
from switch_np.training.trainer import Run
from switch_np.transformer import model_parameters as parameters

POINTS = 25           # of a run's curve, at least MIN_STEPS apart
MIN_STEPS = 8
SAVE_SECONDS = 20     # the most work that is lost when the machine stops


class Outcome(NamedTuple):
    """What a finished run gives: its row, the points of its curve, and its processor time."""

    row: dict[str, Any]
    curve: list[dict[str, Any]]
    seconds: float


def complete(arm: Arm, seed: int, folder: Path | None = None, source: Path | None = None, *,
             stop: Callable[[], bool] = lambda: False,
             report: Callable[[int], None] = lambda step: None) -> Outcome | None:
    """Train to the end; return None if `stop` asked to end before.

    Parameters
    ----------
    folder, source
        Where checkpoints are written, and a run is resumed (None: nothing is written); the folder
        of the run that the arm needs.
    stop, report
        stop() is asked before each step; report(steps done) is called after it.
    """
    corpus = arm.corpus()
    teacher = None if source is None else trainer.load(source / "checkpoint.npz")
    run, history = _begin(arm, seed, folder, corpus, teacher)
    points = _points(run.config.steps)
    saved, before = time.perf_counter(), history["seconds"] - time.process_time()
    while run.step < run.config.steps and not history["diverged"]:
        history["seconds"] = before + time.process_time()
        if stop():
            _save(run, history, folder)
            return None
        try:
            loss, _ = arm.advance(run, corpus, teacher)
        except FloatingPointError:
            history["diverged"] = True
            break
        history["bits"].append(float(loss.cross_entropy) / float(np.log(2)))
        dropped = [plan.dropped_fraction for plan in loss.plans]
        history["dropped"].append(float(np.mean(dropped)) if dropped else 0.0)
        if run.step in points:
            history["measured"].append(dict(arm.evaluate(run, corpus)))
        report(run.step)
        if time.perf_counter() > saved + SAVE_SECONDS:
            saved = time.perf_counter()
            _save(run, history, folder)
    history["seconds"] = before + time.process_time()
    _save(run, history, folder)
    outcome = _outcome(arm, run, history)
    if arm.conclude is not None and not history["diverged"]:
        outcome.row.update(arm.conclude(run, corpus))
    return outcome


def _begin(arm: Arm, seed: int, folder: Path | None, corpus: Any,
           source: Run | None) -> tuple[Run, dict[str, Any]]:
    """Start a run, or resume the one in the folder."""
    config = replace(arm.train, seed=seed)
    if folder is not None and (folder / "checkpoint.npz").exists():
        run = trainer.load(folder / "checkpoint.npz", corpus)
        if (run.model_config, run.config) != (arm.model, config):
            raise ValueError(f"checkpoint must be of arm {arm.name}, seed {seed}, got one with "
                             f"other options in {folder}")
        return run, _read(folder, run)
    run = trainer.start(arm.model, config, corpus)
    if arm.begin is not None:
        if source is None:
            raise ValueError(f"source must be a run of {arm.needs}, got None for arm {arm.name}")
        arm.begin(run, source)
    return run, {"bits": [], "dropped": [], "measured": [], "diverged": False, "seconds": 0.0}


def _points(steps: int) -> list[int]:
    """Return the steps after which the curve has a point; the last is one."""
    points = max(min(POINTS, steps // MIN_STEPS), 1)
    return [-(-n * steps // points) for n in range(1, points + 1)]


def _outcome(arm: Arm, run: Run, history: dict[str, Any]) -> Outcome:
    """Return the row and the curve of a run that finished or diverged."""
    named, points = {"arm": arm.name, "seed": run.config.seed}, _points(run.config.steps)
    measured = [{"train_bits": float(np.mean(history["bits"][begin:end])),
                 "dropped": float(np.mean(history["dropped"][begin:end])), **more}
                for begin, end, more in zip([0, *points], points, history["measured"])]
    last = ({"train_bits": float("nan"), "dropped": float("nan")} if history["diverged"]
            else measured[-1])
    return Outcome({**named, "steps": run.config.steps, "done": run.step,
                    "params": parameters.count_params(run.params), **last},
                   [{**named, "step": step, **point} for step, point in zip(points, measured)],
                   history["seconds"])


def _save(run: Run, history: dict[str, Any], folder: Path | None) -> None:
    if folder is not None:
        files.write_text(folder / "history.json", json.dumps(history) + "\n")
        numbers = {name: history[name] for name in ("bits", "dropped", "measured")}
        run.numbers_id = reading.fingerprint(json.dumps(numbers))
        trainer.save(run, folder / "checkpoint.npz")


def _read(folder: Path, run: Run) -> dict[str, Any]:
    """Return the history up to the checkpoint; what came after it will be done again."""
    path = folder / "history.json"
    lengths = {"bits": run.step, "dropped": run.step,
               "measured": sum(point <= run.step for point in _points(run.config.steps))}
    whole = reading.json_file(path)
    with reading.naming(path, "the history of the checkpoint beside it"):
        check.keys("history", whole, {*lengths, "diverged", "seconds"})
        check.flag("diverged", whole["diverged"])
        check.number("seconds", whole["seconds"], 0)
        history = {name: whole[name][:length] for name, length in lengths.items()}
        if {name: len(values) for name, values in history.items()} != lengths:
            raise ValueError(f"{len(history['bits'])} of {run.step} steps")
        if run.numbers_id not in ("", reading.fingerprint(json.dumps(history))):
            raise ValueError("other numbers")
        diverged = whole["diverged"] and len(whole["bits"]) == run.step
        return history | {"diverged": diverged, "seconds": whole["seconds"]}
