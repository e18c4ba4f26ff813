"""The folder of a run, `runs/NAME/`: its name, its config.json and its metrics.csv."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from switch_np.model import Loss
from switch_np.operations import check, files, reading
from switch_np.switch.plan import Plan
from switch_np.training import tasks
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run
from switch_np.transformer import router_losses
from switch_np.transformer.model_config import ModelConfig

RUNS = Path("runs")
UNFINISHED = {"config.json", "metrics.csv", "checkpoint.npz"}      # left by a run that never saved


@contextmanager
def new(name: str | None) -> Iterator[Path]:
    """Hold the folder for a new run: runs/NAME, or the first unused of runs/run-1, run-2, ..."""
    if name is None:
        folder = _unused()
    elif (name in ("", "..") or Path(name).name != name or name.startswith("-")
          or not name.isprintable()):
        raise ValueError(f"--name must be a plain folder name, got {name!r}")
    else:
        folder = RUNS / name
    with files.claimed(folder):
        if (folder / "checkpoint.npz").exists():
            raise ValueError(f"--name must be new, got {name!r}, which holds a run: "
                             f"--resume continues it")
        found = {files.final_name(path) for path in folder.iterdir()}
        if foreign := found - UNFINISHED - {files.LOCK}:
            raise ValueError(f"--name must be new, got {name!r}, a folder that holds "
                             f"{min(foreign)!r}")
        _tidy(folder)
        yield folder


def _unused() -> Path:
    RUNS.mkdir(exist_ok=True)
    for n in count(1):
        with suppress(FileExistsError):
            (RUNS / f"run-{n}").mkdir()
            break
    return RUNS / f"run-{n}"


@contextmanager
def resumed(name: str | None) -> Iterator[Path]:
    """Hold the folder of a run to resume."""
    folder = existing(name)
    with files.claimed(folder):
        _tidy(folder)
        yield folder


def _tidy(folder: Path) -> None:
    """Delete the unfinished files of a process that was killed."""
    for path in folder.iterdir():
        final = files.final_name(path)
        if final != path.name and final in UNFINISHED:
            path.unlink()


def existing(name: str | None) -> Path:
    """Return the folder of a run by its name or path; without a name, of the latest run."""
    if name is None:
        saved = sorted(RUNS.glob("*/checkpoint.npz"), key=lambda path: path.stat().st_mtime)
        if not saved:
            raise ValueError(f"there must be a run to resume, got none in {RUNS}/")
        return saved[-1].parent
    candidates = RUNS / name, Path(name)
    for folder in candidates:
        if (folder / "checkpoint.npz").exists():
            return folder
    reason = next((f"{folder} has none" for folder in candidates if folder.is_dir()),
                  f"found neither {RUNS / name} nor {name}")
    raise ValueError(f"the run must hold a checkpoint.npz, got {name!r}: {reason}")


def write_config(folder: Path, run: Run, texts: Iterable[str]) -> None:
    """Write config.json: the options of model and training, and the text files."""
    values = {"model": run.model_config.to_dict(), "training": asdict(run.config),
              "text": [str(Path(text).resolve()) for text in texts]}
    files.write_text(folder / "config.json", json.dumps(values, indent=2) + "\n")


class RunConfig(NamedTuple):
    """What config.json says."""

    model: ModelConfig
    training: TrainConfig
    text: list[str]


def read_config(folder: Path) -> RunConfig:
    """Return what `write_config` wrote."""
    values = reading.json_file(folder / "config.json")
    with reading.naming(folder / "config.json", "what the run wrote"):
        check.keys("config", values, {"model", "training", "text"})
        config = RunConfig(ModelConfig.from_dict(values["model"]),
                           TrainConfig.from_dict(values["training"]), values["text"])
        check.instance("text", config.text, list)
        for text in config.text:
            check.instance("text", text, str)
    return config


def check_config(folder: Path, config: RunConfig, run: Run) -> None:
    """Refuse a config.json that says something else than the checkpoint beside it."""
    if (config.model, config.training) != (run.model_config, run.config):
        raise ValueError(f"{folder / 'config.json'} must hold the options of the checkpoint beside "
                         "it, got others")


class Metrics:
    """metrics.csv: one row per step.

    Columns: step; seconds of computing so far; loss (with the router's losses) and cross_entropy,
    in nats per token; the task's measure (bits_per_byte or neg_log_perplexity); grad_norm before
    clipping; dropped, the fraction of choices over all Switch layers. Then for each Switch layer n:
    balance_n, z_n, dropped_n, and load_n_e, expert e's fraction of the choices before dropping.
    Last the measure on held-out text, held_out_..., where it was taken. n is the number of the
    block, or encoder.1, decoder.1, ... if there is an encoder; with Switch layers in attention
    also 1.q and 1.kv. A stack that pools its losses has one pair, such as balance_decoder and
    z_decoder, before its layers.
    """

    def __init__(self, path: Path, run: Run) -> None:
        config = run.model_config
        self.path, self.run, self.measure = path, run, tasks.named(run.config.task).measure
        self.layers = layer_names(config)
        self.losses = router_losses.names(config) if config.router_losses != "sum" else self.layers
        self.columns = ["step", "seconds", "loss", "cross_entropy", self.measure.column,
                        "grad_norm", "dropped"]
        for n in dict.fromkeys((*self.losses, *self.layers)):
            if n in self.losses:
                self.columns += [f"balance_{n}", f"z_{n}"]
            if n in self.layers:
                loads = (f"load_{n}_{e}" for e in range(config.switch.num_experts))
                self.columns += [f"dropped_{n}", *loads]
        self.columns.append(f"held_out_{self.measure.column}")
        self.rows: list[list[Any]] = self._read(run.step) if run.step else []

    @property
    def held_out(self) -> float | None:
        """The measure on held-out text after the last step, where it was taken."""
        found = self.rows[-1][-1]
        return None if found == "" else float(found)

    @held_out.setter
    def held_out(self, value: float) -> None:
        self.rows[-1][-1] = value

    def add(self, loss: Loss, grad_norm: float) -> None:
        """Add the row of the step that the run has just taken."""
        run = self.run
        nats, dropped = float(loss.cross_entropy), [plan.dropped_fraction for plan in loss.plans]
        row: dict[str, Any] = dict(zip(self.columns, [
            run.step, round(run.seconds, 4), float(loss.total), nats, nats * self.measure.scale,
            float(grad_norm), float(np.mean(dropped)) if dropped else 0.0]))
        for n, balance, z in zip(self.losses, loss.balance, loss.z, strict=True):
            row |= {f"balance_{n}": float(balance), f"z_{n}": float(z)}
        for n, plan, fraction in zip(self.layers, loss.plans, dropped, strict=True):
            row |= {f"load_{n}_{e}": load for e, load in enumerate(load_fractions(plan))}
            row[f"dropped_{n}"] = fraction
        row[self.columns[-1]] = ""
        self.rows.append([row[name] for name in self.columns])

    def write(self) -> None:
        """Write all rows to the file, and note their fingerprint in the run."""
        lines = [",".join(map(str, row)) for row in [self.columns, *self.rows]]
        self.run.numbers_id = reading.fingerprint("\n".join(lines))
        files.write_text(self.path, "\n".join(lines) + "\n")

    def column(self, name: str) -> np.ndarray:
        """Return one column as floats, NaN where it is empty."""
        index = self.columns.index(name)
        return np.array([np.nan if row[index] == "" else float(row[index]) for row in self.rows])

    def _read(self, step: int) -> list[list[Any]]:
        """Return the rows up to `step`; any later ones are computed again."""
        with reading.naming(self.path, f"the steps 1 to {step} as this run wrote them"):
            lines = self.path.read_text(encoding="utf-8").split("\n")[:step + 1]
            header, *rows = [line.split(",") for line in lines]
            steps = [row[0] for row in rows if len(row) == len(header)]
            if (header != self.columns or len(steps) != step
                    or steps != [str(n) for n in range(1, step + 1)]):
                raise ValueError(f"{len(steps)} whole rows")
            # The last row may have been saved before its measure on held-out text was taken.
            saved = "\n".join(lines), "\n".join(lines).rpartition(",")[0] + ","
            if self.run.numbers_id not in ("", *map(reading.fingerprint, saved)):
                raise ValueError("other numbers")
        return rows


def layer_names(config: ModelConfig) -> tuple[str, ...]:
    """Return the names of the Switch layers in the columns.

    >>> layer_names(ModelConfig()), layer_names(ModelConfig(num_encoder_layers=2, num_layers=2))
    (('1', '3'), ('encoder.1', 'decoder.1'))
    """
    names = config.switch_names
    return names if config.encoder else tuple(name.removeprefix("decoder.") for name in names)


def load_fractions(plan: Plan) -> list[float]:
    """Return each expert's fraction of the choices, before dropping."""
    load_E = plan.load.sum(axis=0)
    return [float(load) for load in load_E / max(load_E.sum(), 1)]
