"""The results of an experiment on disk, as they grow run by run."""

import json
import os
import platform
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.experiments import results
from switch_np.experiments.experiment import Experiment
from switch_np.experiments.runner import Outcome
from switch_np.operations import files, reading

Rows = dict[tuple[str, int], list[dict[str, Any]]]     # by arm and seed


class Folder:
    """NAME.csv and NAME_curves.csv, NAME_machine.json, options.json, and a folder per run."""

    def __init__(self, experiment: Experiment, path: Path) -> None:
        self.path, self.name = path, experiment.name
        self.arms = [arm.name for arm in experiment.arms]
        self.options = {arm.name: arm.options() for arm in experiment.arms}
        begun = (path / f"{self.name}.csv").exists()
        self._check_options(begun)
        found = results.read(self.name, path) if begun else results.Results({}, {}, {})
        self.rows, self.curves = _by_run(found.rows), _by_run(found.curves)
        self.seconds = _seconds(path, self.name)

    def run(self, arm: str, seed: int) -> Path:
        """Return the folder of one run."""
        return self.path / f"{arm}-seed{seed}"

    def add(self, outcome: Outcome) -> None:
        """Write a finished run, the rows last, in the order of arms and seeds."""
        arm, seed = outcome.row["arm"], int(outcome.row["seed"])
        self.rows[arm, seed], self.curves[arm, seed] = [outcome.row], outcome.curve
        if np.isfinite(outcome.seconds):
            self.seconds.setdefault(arm, {})[str(seed)] = round(outcome.seconds, 2)
        about = {"machine": f"{platform.machine()}, {os.cpu_count()} cores",
                 "system": platform.system(), "python": platform.python_version(),
                 "numpy": np.__version__, "processor seconds": self.seconds}
        files.write_text(self.path / f"{self.name}_machine.json",
                         json.dumps(about, indent=1) + "\n")
        for table, suffix in ((self.curves, "_curves"), (self.rows, "")):
            runs = sorted(table, key=lambda run: (self.arms.index(run[0]), run[1]))
            results.write_csv(self.path / f"{self.name}{suffix}.csv",
                              [row for run in runs for row in table[run]])

    def borrow(self, seeds: list[int]) -> None:
        """Copy the runs that a folder beside this one has: same options, same seeds.

        An arm that needs another's run is not looked for. A folder that cannot be read is passed
        over, and so is a run whose files are gone: it is computed here.
        """
        for other in sorted(self.path.parent.glob("*/options.json")):
            if other.parent == self.path:
                continue
            for path in other.parent.glob("*_curves.csv"):
                with suppress(ValueError, OSError):
                    self._borrow(other.parent, path.name.removesuffix("_curves.csv"),
                                 reading.json_file(other), seeds)

    def _borrow(self, beside: Path, name: str, known: dict[str, Any], seeds: list[int]) -> None:
        """Copy runs of the experiment of this name in one folder."""
        found, seconds = results.read(name, beside), _seconds(beside, name)
        rows, curves = _by_run(found.rows), _by_run(found.curves)
        for arm, options in self.options.items():
            twins = [twin for twin in known if known[twin] == options and not options["needs"]]
            for twin, seed in [(twin, seed) for twin in twins for seed in seeds]:
                if (twin, seed) in rows and (arm, seed) not in self.rows:
                    kept = {file: beside / f"{twin}-seed{seed}" / file
                            for file in ("history.json", "checkpoint.npz")}
                    if not all(path.exists() for path in kept.values()):
                        continue
                    for file, path in kept.items():
                        with files.replacing(self.run(arm, seed) / file) as copy:
                            copy.write(path.read_bytes())
                    renamed = [[{**row, "arm": arm} for row in table[twin, seed]]
                               for table in (rows, curves)]
                    took = seconds.get(twin, {}).get(str(seed), float("nan"))
                    self.add(Outcome(renamed[0][0], renamed[1], took))

    def _check_options(self, begun: bool) -> None:
        """Write the arms' options, or refuse to mix in results of other options."""
        path, text = self.path / "options.json", json.dumps(self.options, indent=1) + "\n"
        if not path.exists():
            if begun:
                raise ValueError(f"--out must hold no results of unknown options, got {self.path}, "
                                 f"which has a {self.name}.csv and no options.json")
            files.write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            raise ValueError(f"--out must hold results of the same arms and steps, got "
                             f"{self.path}, whose options.json says otherwise: give another --out")


def _seconds(path: Path, name: str) -> dict[str, dict[str, float]]:
    """Return the processor time of the runs in a folder, by arm and seed."""
    machine = path / f"{name}_machine.json"
    seconds: dict[str, dict[str, float]] = (
        reading.json_file(machine)["processor seconds"] if machine.exists() else {})
    return seconds


def _by_run(table: results.Table) -> Rows:
    runs = defaultdict[tuple[str, int], list[dict[str, Any]]](list)
    for row in results.records(table):
        runs[row["arm"], int(row["seed"])].append(row)
    return runs
