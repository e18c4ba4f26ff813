"""The folder of a run, `runs/NAME/`: what is written there, and how it is found again."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.model import Loss
from switch_np.operations import files
from switch_np.training import tasks
from switch_np.training.trainer import Run
from switch_np.transformer import router_losses
from switch_np.transformer.model_config import ModelConfig

RUNS = Path("runs")
BEGUN = {"config.json", "metrics.csv", "checkpoint.npz"}    # of a run stopped before it was saved


def new(name: str | None) -> Path:
    """Return the folder for a new run: runs/NAME, or the first free runs/run-1, runs/run-2, ..."""
    if name is None:
        taken = {path.name for path in RUNS.glob("run-*")}
        return RUNS / next(f"run-{n}" for n in range(1, len(taken) + 2) if f"run-{n}" not in taken)
    if name in ("", "..") or Path(name).name != name:
        raise ValueError(f"--name must be a plain folder name, got {name!r}")
    folder = RUNS / name
    if (folder / "checkpoint.npz").exists():
        raise ValueError(f"--name must be new, got {name!r}, which holds a run: "
                         f"--resume goes on with it")
    there = [path.name for path in folder.iterdir()] if folder.exists() else []
    if other := sorted(each for each in there if each.removesuffix(".new") not in BEGUN):
        raise ValueError(f"--name must be new, got {name!r}, a folder that holds {other[0]!r}")
    return folder


def existing(name: str | None) -> Path:
    """Return the folder of a run by its name or path; without a name, of the latest one."""
    if name is None:
        saved = sorted(RUNS.glob("*/checkpoint.npz"), key=lambda path: path.stat().st_mtime)
        if not saved:
            raise ValueError(f"there must be a run to go on with, got none in {RUNS}/")
        return saved[-1].parent
    candidates = RUNS / name, Path(name)
    for folder in candidates:
        if (folder / "checkpoint.npz").exists():
            return folder
    there = next((f"{folder} has none" for folder in candidates if folder.is_dir()),
                 f"found neither {RUNS / name} nor {name}")
    raise ValueError(f"the run must hold a checkpoint.npz, got {name!r}: {there}")


def write_config(folder: Path, run: Run, texts: Iterable[str]) -> None:
    """Write config.json: the options of model and training, and the text files."""
    values = {"model": run.model_config.to_dict(), "training": asdict(run.config),
              "text": [str(Path(text).resolve()) for text in texts]}
    files.write_text(folder / "config.json", json.dumps(values, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """Return what `write_config` wrote."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the run must hold a config.json, got {folder}: {error}") from error
    for name, kind in (("training", dict), ("text", list)):
        if not isinstance(values, dict) or not isinstance(values.get(name), kind):
            raise ValueError(f"config.json must hold {name!r} as the run wrote it, got something "
                             f"else in {folder}")
    return dict(values)


class Metrics:
    """metrics.csv: one row per step.

    Columns: step, seconds (of computing so far), loss (with the router's losses) and cross_entropy
    in nats per token, the task's measure (bits_per_byte or neg_log_perplexity), grad_norm (before
    clipping), dropped (share of choices, over all Switch layers), then per Switch layer n:
    balance_n, z_n, dropped_n, and per expert e load_n_e, its share of the tokens before dropping;
    the measure once more, held_out_..., where it was taken. n is the number of the block, with an
    encoder encoder.1, decoder.1 and so on. Of losses that a stack pools there is one a stack,
    balance_decoder and z_decoder, before the layers.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self.measure = tasks.named(run.config.task).measure
        self.columns = ["step", "seconds", "loss", "cross_entropy", self.measure.column,
                        "grad_norm", "dropped"]
        self.layers = self.losses = layer_names(run.model_config)
        if run.model_config.router_losses != "sum":
            self.losses = router_losses.names(run.model_config)
        for n in dict.fromkeys((*self.losses, *self.layers)):
            self.columns += [f"{loss}_{n}" for loss in ("balance", "z") if n in self.losses]
            if n in self.layers:
                self.columns += [f"dropped_{n}", *(
                    f"load_{n}_{e}" for e in range(run.model_config.switch.num_experts))]
        self.columns.append(f"held_out_{self.measure.column}")
        self.rows: list[list[Any]] = self._read(run.step) if run.step else []

    def add(self, run: Run, loss: Loss, grad_norm: float, held_out: float | None) -> None:
        """Keep the row of the step that `run` has just done."""
        drops = [plan.dropped_fraction for plan in loss.plans]
        first = [run.step, round(run.seconds, 4), float(loss.total), float(loss.cross_entropy),
                 float(loss.cross_entropy) * self.measure.scale, grad_norm,
                 float(np.mean(drops)) if drops else 0.0]
        row: dict[str, Any] = dict(zip(self.columns, first))
        for n, balance, z in zip(self.losses, loss.balance, loss.z, strict=True):
            row |= {f"balance_{n}": float(balance), f"z_{n}": float(z)}
        for n, plan, dropped in zip(self.layers, loss.plans, drops, strict=True):
            row |= {f"dropped_{n}": dropped, **{
                f"load_{n}_{e}": load for e, load in enumerate(loads(plan))}}
        row[self.columns[-1]] = "" if held_out is None else held_out
        self.rows.append([value.item() if isinstance(value, np.generic) else value
                          for value in map(row.__getitem__, self.columns)])

    def write(self) -> None:
        """Write all rows to the file."""
        lines = [",".join(map(str, row)) for row in [self.columns, *self.rows]]
        files.write_text(self.path, "\n".join(lines) + "\n")

    def column(self, name: str) -> np.ndarray:
        """Return one column as floats, NaN where it is empty."""
        column = self.columns.index(name)
        return np.array([np.nan if row[column] == "" else float(row[column]) for row in self.rows])

    def _read(self, step: int) -> list[list[Any]]:
        """Return the rows up to `step`: what came after the checkpoint is done again."""
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
        except (OSError, ValueError, csv.Error) as error:
            raise ValueError(f"the run must hold its metrics.csv, got {self.path}: "
                             f"{error}") from error
        if header != self.columns or [(len(row), row[:1]) for row in rows[:step]] != [
                (len(header), [str(n)]) for n in range(1, step + 1)]:
            raise ValueError(f"metrics.csv must hold the steps 1 to {step} of this run, got "
                             f"something else in {self.path}")
        return rows[:step]


def layer_names(config: ModelConfig) -> tuple[str, ...]:
    """Return how the columns call the Switch layers.

    >>> layer_names(ModelConfig()), layer_names(ModelConfig(num_encoder_layers=2, num_layers=2))
    (('1', '3'), ('encoder.1', 'decoder.1'))
    """
    return config.switch_names if config.encoder else tuple(map(str, config.switch_layers))


def loads(plan: Any) -> list[float]:
    """Return each expert's share of the choices, before dropping."""
    load = plan.load.sum(axis=0)
    return [float(share) for share in load / max(load.sum(), 1)]
