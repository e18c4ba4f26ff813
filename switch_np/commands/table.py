"""`python -m switch_np table`: run one of the paper's tables at toy scale, and draw it."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

from switch_np import experiments
from switch_np.commands import terminal
from switch_np.commands.run_folder import RUNS
from switch_np.experiments import pool, results
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.folder import Folder
from switch_np.experiments.runner import Outcome
from switch_np.operations import check, files
from switch_np.training import trainer

ROUNDS = 30
SHOWN = 6              # numbers of a finished run on its line; all are in the CSV


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("table", metavar="NAME", choices=experiments.NAMES,
        help=f"one of {', '.join(experiments.NAMES)}")
    add("--seeds", type=int, nargs="+", metavar="N",
        help="seeds to train each arm with (default: the experiment's own)")
    add("--kept", action="store_true", help="use the seeds of the results kept in the repository")
    add("--steps", type=int, metavar="N",
        help="cut the longest run to this many steps, the others in proportion (default: all)")
    add("--rounds", type=int, metavar="N",
        help=f"where speed is measured: time this many steps of each model in turn, replacing any "
             f"earlier timing; 0: no timing (default: {ROUNDS}, or 0 if there is a timing)")
    add("--processes", type=int, default=2, metavar="N", help="runs at a time (default: 2)")
    add("--out", type=Path, metavar="DIR", help="folder of results (default: runs/tables/NAME)")


def run(args: argparse.Namespace) -> int:
    """Do the runs that are missing until all are there or Ctrl-C; then draw and print the table."""
    experiment = experiments.load(args.table).shortened(args.steps)
    if args.kept and args.seeds:
        raise ValueError("--seeds must be left out with --kept, which sets them")
    seeds = args.seeds or list(experiment.kept if args.kept else experiment.seeds)
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds must be at least 0, none twice, got {' '.join(map(str, seeds))}")
    check.integer("--processes", args.processes, 1)
    if args.rounds is not None:
        check.integer("--rounds", args.rounds, 0)
    if args.rounds and experiment.speed is None:
        raise ValueError(f"--rounds must be left out for {experiment.name}, which measures no "
                         f"speed, got {args.rounds}")
    path = args.out or RUNS / "tables" / experiment.name
    with files.claimed(path):
        folder = Folder(experiment, path)
        try:
            with terminal.signals() as signals:
                with signals.whole():
                    folder.borrow(seeds)
                    _complete(experiment, seeds, args.processes, folder, signals.asked)
                if experiment.speed is not None:
                    _time(experiment.speed, args.rounds, seeds[0], folder)
                _report(experiment, path)
        except terminal.Stopped:
            print(f"stopped and saved in {path}/; the same command continues")
    return 0


def _complete(experiment: Experiment, seeds: list[int], processes: int, folder: Folder,
              asked: Callable[[], bool]) -> None:
    """Do the runs that are missing, until asked to stop."""
    runs = [(arm, 0) for arm in experiment.arms if arm.once]
    runs += [(arm, seed) for seed in seeds for arm in experiment.arms if not arm.once]
    jobs = _jobs(runs, folder)
    print(f"{experiment.name}: {len(experiment.arms)} arms, {len(seeds)} seeds, {len(runs)} runs; "
          f"{len(jobs)} to do, {processes} at a time; writes {folder.path}/; Ctrl-C saves "
          f"and stops", flush=True)
    line = Line(jobs)

    def done(job: pool.Job, outcome: Outcome) -> None:
        folder.add(outcome)
        line.done(job, outcome)

    with closing(line):
        pool.run_all(jobs, processes, asked, line.step, done)


def _jobs(runs: list[tuple[Arm, int]], folder: Folder) -> list[pool.Job]:
    """Return the missing runs, and those whose lost checkpoint they need."""
    jobs, needed = list[pool.Job](), set[Path]()
    once = {arm.name for arm, _ in runs if arm.once}
    for arm, seed in reversed(runs):
        path = folder.run(arm.name, seed)
        lost = path in needed and not (path / "checkpoint.npz").exists()
        if lost or (arm.name, seed) not in folder.rows:
            source = None
            if arm.needs:
                source = folder.run(arm.needs, 0 if arm.needs in once else seed)
                needed.add(source)
            jobs.append(pool.Job(arm, seed, path, source))
    return jobs[::-1]


class Line(terminal.Line):
    """The progress line of all runs."""

    def __init__(self, jobs: Sequence[pool.Job]) -> None:
        super().__init__(apart=30)
        self.jobs, self.taken = jobs, 0             # steps taken; a resumed run has more behind it
        self.left = {job.folder: job.arm.train.steps for job in jobs}
        self.running: dict[Path, pool.Job] = {}

    def step(self, job: pool.Job, step: int) -> None:
        """Show how far a run is."""
        left = job.arm.train.steps - step
        if job.folder in self.running:
            self.taken += self.left[job.folder] - left
        self.running[job.folder], self.left[job.folder] = job, left
        if not self.due():
            return
        texts = [f"{len(self.jobs) - len(self.left)}/{len(self.jobs)} runs done"]
        for path, job in self.running.items():
            steps = job.arm.train.steps
            texts.append(f"{job.arm.label} seed {job.seed} step {steps - self.left[path]}/{steps}")
        if self.taken:
            texts.append(self.time_left(self.taken, sum(self.left.values())))
        self.write(", ".join(texts))

    def done(self, job: pool.Job, outcome: Outcome) -> None:
        """Show what a run gave, on a line that stays."""
        self.running.pop(job.folder, None)
        del self.left[job.folder]
        numbers = ", ".join([f"{name} {value:.4g}" for name, value in outcome.row.items()
                             if isinstance(value, float)][:SHOWN])
        self.write(f"{job.arm.label}, seed {job.seed}: {numbers}", stays=True)


def _time(speed: Any, rounds: int | None, seed: int, folder: Folder) -> None:
    """Time the models' steps; an earlier timing is kept unless rounds are asked for."""
    path = folder.path / f"{folder.name}_speed.csv"
    if rounds or (rounds is None and not path.exists()):
        rounds = rounds or ROUNDS
        print(f"timing {rounds} steps of each model, in turn", flush=True)
        runs = {arm: trainer.load(folder.run(arm, seed) / "checkpoint.npz") for arm in folder.arms}
        results.write_csv(path, speed(rounds, runs))
    elif path.exists():
        print(f"the timing in {path} is kept; --rounds N measures again")


def _report(experiment: Experiment, folder: Path) -> None:
    """Draw, print the table, and say where everything is."""
    found = results.read(experiment.name, folder)
    try:
        figure = experiment.draw(found)
        with files.replacing(folder / f"{experiment.name}.png") as file:
            figure.savefig(file, dpi=150)
    except ImportError:
        print("matplotlib is not installed: no picture is drawn")
    print("\n" + _aligned(experiment.summary(found)))
    for claim in experiment.claims:
        print(f"\n{claim.text} (the paper: {claim.paper})" + " - primary" * claim.primary)
        effect = claim.effect(found)
        print(f"    {claim.unit}: {effect} ({effect.words})")
    print(f"\n{terminal.contents(folder)}")


def _aligned(rows: list[dict[str, str]]) -> str:
    """Return a table's rows as lines with aligned columns; a header may have several lines."""
    lines = [*zip_longest(*(name.split("\n") for name in rows[0]), fillvalue="")]
    lines += [tuple(row.values()) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)
