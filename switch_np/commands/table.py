"""`python -m switch_np table`: run one of the paper's tables at toy scale, and draw it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from switch_np import experiments
from switch_np.commands import terminal
from switch_np.commands.run_folder import RUNS
from switch_np.experiments import pool, results
from switch_np.experiments.experiment import Experiment
from switch_np.experiments.pool import Job
from switch_np.experiments.runner import Outcome
from switch_np.operations import files
from switch_np.training import trainer

ROUNDS = 30
SHOWN = 6              # numbers of a finished run on its line; all are in the CSV


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = terminal.Help
    add = parser.add_argument
    add("table", metavar="NAME", choices=experiments.NAMES,
        help=f"which: {', '.join(experiments.NAMES)}")
    add("--seeds", type=int, nargs="+", default=None, metavar="N",
        help="seeds, each a run per arm (default: the experiment's own)")
    add("--steps", type=int, default=None, metavar="N",
        help="cut the longest run to this many steps, the others in proportion (default: all)")
    add("--rounds", type=int, default=None, metavar="N",
        help=f"time this many steps of each model, in turns, where speed is measured, also where "
             f"a timing is kept; 0: no timing (default: {ROUNDS}, unless one is kept)")
    add("--processes", type=int, default=2, metavar="N", help="runs at a time")
    add("--out", type=Path, default=None, metavar="DIR",
        help="folder of the results (default: runs/tables/NAME)")


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet, until all is or until Ctrl-C; then draw and say what came out."""
    experiment = experiments.load(args.table).shortened(args.steps)
    seeds = list(experiment.seeds) if args.seeds is None else args.seeds
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds must be at least 0, none twice, got "
                         f"{' '.join(map(str, seeds))}")
    for name, least in (("processes", 1), ("rounds", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if args.rounds and experiment.speed is None:
        raise ValueError(f"--rounds must be left out for {experiment.name}, which measures no "
                         f"speed, got {args.rounds}")
    folder = Folder(experiment, args.out or RUNS / "tables" / experiment.name)
    if not _complete(experiment, seeds, args.processes, folder):
        print(f"stopped and saved in {folder.path}/; the same command goes on")
        return 0
    if experiment.speed is not None:
        _time(experiment.speed, args.rounds, seeds[0], folder)
    _leave(experiment, folder.path)
    return 0


class Folder:
    """The results of an experiment on disk: NAME.csv, NAME_curves.csv, and a folder per run."""

    def __init__(self, experiment: Experiment, path: Path) -> None:
        self.path, self.name = path, experiment.name
        self.speed_path = path / f"{self.name}_speed.csv"
        self.order = [arm.name for arm in experiment.arms]
        self._hold_options({arm.name: arm.options() for arm in experiment.arms})
        found = (results.read(self.name, path) if (path / f"{self.name}.csv").exists()
                 else results.Results({}, {}, {}))
        self.rows, self.curves = results.records(found.rows), results.records(found.curves)

    def of(self, arm: str, seed: int) -> Path:
        """Return the folder of one run."""
        return self.path / f"{arm}-seed{seed}"

    def has(self, arm: str, seed: int) -> bool:
        """Whether a run's row was written."""
        return any((row["arm"], row["seed"]) == (arm, seed) for row in self.rows)

    def add(self, outcome: Outcome) -> None:
        """Write a finished run, the curves before the rows, in the order of arms and seeds."""
        arm, seed = outcome.row["arm"], outcome.row["seed"]
        self.rows = [row for row in self.rows if (row["arm"], row["seed"]) != (arm, seed)]
        self.curves = [row for row in self.curves if (row["arm"], row["seed"]) != (arm, seed)]
        self.rows.append(outcome.row)
        self.curves += outcome.curve

        def rank(row: Mapping[str, Any]) -> tuple[int, int, int]:
            return self.order.index(row["arm"]), row["seed"], row.get("step", 0)

        results.write_csv(self.path / f"{self.name}_curves.csv", sorted(self.curves, key=rank))
        results.write_csv(self.path / f"{self.name}.csv", sorted(self.rows, key=rank))

    def _hold_options(self, options: dict[str, Any]) -> None:
        """Write the arms' options, or refuse to mix results of others with these."""
        path, text = self.path / "options.json", json.dumps(options, indent=1) + "\n"
        if not path.exists():
            if (self.path / f"{self.name}.csv").exists():
                raise ValueError(f"--out must hold no results of unknown options, got {self.path}, "
                                 f"which has a {self.name}.csv and no options.json")
            files.write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            raise ValueError(f"--out must hold results of the same arms and steps, got "
                             f"{self.path}, whose options.json says otherwise: give another --out")


def _complete(experiment: Experiment, seeds: list[int], processes: int, folder: Folder) -> bool:
    """Run all that is not done; return False if a signal asked to stop."""
    jobs = _jobs(experiment, seeds, folder)
    runs = len(seeds) * len(experiment.arms)
    steps = sum(job.arm.train.steps for job in jobs)
    print(f"{experiment.name}: {len(experiment.arms)} arms, {len(seeds)} seeds, {runs} runs; "
          f"{len(jobs)} to do, {processes} at a time; writes {folder.path}/; Ctrl-C saves and "
          f"stops", flush=True)
    line = Line(len(jobs), steps)

    def done(job: Job, outcome: Outcome) -> None:
        folder.add(outcome)
        line.done(job, outcome)

    with terminal.asked_to_stop() as asked, closing(line):
        return pool.run_all(jobs, processes, asked, line.step, done)


def _time(speed: Any, rounds: int | None, seed: int, folder: Folder) -> None:
    """Time the models' steps; a timing that is kept stays, unless rounds are asked for."""
    kept = folder.speed_path.exists()
    if rounds is None:
        rounds = 0 if kept else ROUNDS
    if rounds:
        print(f"timing {rounds} steps of each model, in turns", flush=True)
        runs = {arm: trainer.load(folder.of(arm, seed) / "checkpoint.npz")
                for arm in folder.order}
        results.write_csv(folder.speed_path, speed(rounds, runs))
    elif kept:
        print(f"the timing in {folder.speed_path} is kept; --rounds N takes it anew")


def _jobs(experiment: Experiment, seeds: list[int], folder: Folder) -> list[Job]:
    """Return the runs to be done, seed by seed, and those whose checkpoint they need."""
    jobs: list[Job] = []
    for seed in seeds:
        mine: list[Job] = []
        needed: set[str] = set()
        for arm in reversed(experiment.arms):
            lost = arm.name in needed and not (
                folder.of(arm.name, seed) / "checkpoint.npz").exists()
            if lost or not folder.has(arm.name, seed):
                source = folder.of(arm.needs, seed) if arm.needs else None
                mine.append(Job(arm, seed, folder.of(arm.name, seed), source))
                needed.add(arm.needs)
        jobs += reversed(mine)
    return jobs


class Line(terminal.Line):
    """The progress line of all runs."""

    def __init__(self, runs: int, steps: int) -> None:
        super().__init__(apart=30)
        self.runs, self.steps = runs, steps
        self.finished = self.before = 0
        self.at: dict[Path, tuple[Job, int]] = {}
        self.first: dict[Path, int] = {}

    def step(self, job: Job, step: int) -> None:
        """Show how far a run is."""
        self.first.setdefault(job.folder, step)
        self.at[job.folder] = job, step
        if self.due():
            self.write(self._text(time.perf_counter()))

    def done(self, job: Job, outcome: Outcome) -> None:
        """Say what a run gave, on a line that stays."""
        self.finished += 1
        self.at.pop(job.folder, None)
        self.before += job.arm.train.steps - self.first.get(job.folder, job.arm.train.steps)
        self.steps -= self.first.get(job.folder, job.arm.train.steps)
        numbers = ", ".join([f"{name} {value:.4g}" for name, value in outcome.row.items()
                             if isinstance(value, float)][:SHOWN])
        self.write(f"{job.arm.label}, seed {job.seed}: {numbers}", stays=True)

    def _text(self, now: float) -> str:
        parts = [f"{self.finished}/{self.runs} runs done"]
        parts += [f"{job.arm.label} seed {job.seed} step {step}/{job.arm.train.steps}"
                  for job, step in self.at.values()]
        resumed = sum(self.first[folder] for folder in self.at)
        taken = self.before + sum(step for _, step in self.at.values()) - resumed
        if taken > 0:
            left = int((self.steps - resumed - taken) * (now - self.begun) / taken)
            parts.append(f"{left // 60}:{left % 60:02} left")
        return ", ".join(parts)


def _leave(experiment: Experiment, folder: Path) -> None:
    """Draw, print the table, and say where all is."""
    found = results.read(experiment.name, folder)
    try:
        experiment.draw(found).savefig(folder / f"{experiment.name}.png", dpi=150)
    except ImportError:
        print("matplotlib is not installed: no picture is drawn")
    print("\n" + _aligned(experiment.summary(found)))
    print(f"\n{folder}/ holds " + ", ".join(
        sorted(path.name for path in folder.iterdir() if path.is_file())))


def _aligned(rows: list[dict[str, str]]) -> str:
    """Return the rows of a table of words as lines, column under column; a head may have lines."""
    heads = [head.split("\n") for head in rows[0]]
    lines = [[(head + [""] * 9)[n] for head in heads] for n in range(max(map(len, heads)))]
    lines += [list(row.values()) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip()
                     for line in lines)
