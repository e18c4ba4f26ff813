"""One run of an experiment: an arm and a seed, trained to the end, stopped, and gone on with.

What was measured is written before the checkpoint, so that a checkpoint always has its numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.experiments.experiment import Arm
from switch_np.operations import files
from switch_np.training import trainer
from switch_np.training.trainer import Run
from switch_np.transformer import model_parameters as parameters

POINTS = 25           # of a run's curve, fewer where these would lie closer than APART steps
APART = 8
SAVE_SECONDS = 20     # at most this much work is lost when the machine stops


class Outcome(NamedTuple):
    """What a finished run gives: its row, and the points of its curve."""

    row: dict[str, Any]
    curve: list[dict[str, Any]]


def complete(arm: Arm, seed: int, folder: Path | None = None, source: Path | None = None, *,
             stop: Callable[[], bool] = lambda: False,
             report: Callable[[int], None] = lambda step: None) -> Outcome | None:
    """Train to the end; return None if `stop` asked to end before it.

    Parameters
    ----------
    arm, seed
        What to train.
    folder
        Where the checkpoint is, goes, and is gone on with. None: nothing is written.
    source
        The folder of the run that the arm needs.
    stop, report
        Asked before each step; told after each step how many are done.
    """
    corpus = arm.corpus()
    teacher = None if source is None else trainer.load(source / "checkpoint.npz")
    run, history = _begin(arm, seed, folder, corpus, teacher)
    points = _points(run.config.steps)
    saved = time.perf_counter()
    while run.step < run.config.steps and not history["diverged"]:
        if stop():
            _save(run, history, folder)
            return None
        try:
            loss, _ = arm.advance(run, corpus, teacher)
        except FloatingPointError:
            history["diverged"] = True
            break
        history["bits"].append(float(loss.cross_entropy) / float(np.log(2)))
        history["dropped"].append(_dropped(loss.plans))
        if run.step in points:
            history["measured"].append(dict(arm.evaluate(run, corpus, teacher)))
        report(run.step)
        if time.perf_counter() > saved + SAVE_SECONDS:
            saved = time.perf_counter()
            _save(run, history, folder)
    _save(run, history, folder)
    found = _outcome(arm, run, history, points)
    if arm.conclude is not None and not history["diverged"]:
        found.row.update(arm.conclude(run, corpus, teacher))
    return found


def _begin(arm: Arm, seed: int, folder: Path | None, corpus: Any,
           source: Run | None) -> tuple[Run, dict[str, Any]]:
    """Start a run, or go on with the one in the folder."""
    config = replace(arm.train, seed=seed)
    if folder is not None and (folder / "checkpoint.npz").exists():
        run = trainer.load(folder / "checkpoint.npz", corpus)
        if (run.model_config, run.config) != (arm.model, config):
            raise ValueError(f"checkpoint must be of arm {arm.name}, seed {seed}, got one with "
                             f"other options in {folder}")
        return run, _read(folder, run)
    run = trainer.start(arm.model, config, corpus)
    if arm.begin is not None:
        arm.begin(run, source)
    return run, {"bits": [], "dropped": [], "measured": [], "diverged": False}


def _points(steps: int) -> list[int]:
    """Return the steps after which the curve has a point; the last is one."""
    points = max(min(POINTS, steps // APART), 1)
    return [-(-n * steps // points) for n in range(1, points + 1)]


def _dropped(plans: Any) -> float:
    return float(np.mean([plan.dropped_fraction for plan in plans])) if plans else 0.0


def _outcome(arm: Arm, run: Run, history: dict[str, Any], points: list[int]) -> Outcome:
    """Make the row and the curve of a run that is done, or that diverged."""
    named = {"arm": arm.name, "seed": run.config.seed}
    curve, begin = [], 0
    for end, measured in zip(points, history["measured"]):
        curve.append({**named, "step": end, "train_bits": float(np.mean(
            history["bits"][begin:end])), "dropped": float(np.mean(history["dropped"][begin:end])),
            **measured})
        begin = end
    last = dict.fromkeys(["train_bits", "dropped"], float("nan"))
    if not history["diverged"]:
        last = {name: value for name, value in curve[-1].items() if name not in (*named, "step")}
    return Outcome({**named, "steps": run.config.steps, "done": run.step,
                    "params": parameters.count_params(run.params), **last}, curve)


def _save(run: Run, history: dict[str, Any], folder: Path | None) -> None:
    if folder is not None:
        files.write_text(folder / "history.json", json.dumps(history) + "\n")
        trainer.save(run, folder / "checkpoint.npz")


def _read(folder: Path, run: Run) -> dict[str, Any]:
    """Return the history up to the checkpoint: what came after it is done again."""
    path = folder / "history.json"
    try:
        history = json.loads(path.read_text(encoding="utf-8"))
        done = sum(point <= run.step for point in _points(run.config.steps))
        history = {"bits": history["bits"][:run.step], "dropped": history["dropped"][:run.step],
                   "measured": history["measured"][:done],
                   "diverged": history["diverged"] and len(history["bits"]) == run.step}
        if len(history["dropped"]) != run.step or len(history["measured"]) != done:
            raise ValueError(f"{len(history['bits'])} of {run.step} steps")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"history must be that of the checkpoint beside it, got {path}: "
                         f"{error}") from error
    return history
