"""The paper's tables at toy scale: `python -m switch_np table NAME`, one file per table.

A new experiment is one file, `NAME.py`: its docstring says what the paper claims and what is run
here, and its `EXPERIMENT` holds the arms. Its name is added to `NAMES`.
"""

from __future__ import annotations

from importlib import import_module

from switch_np.experiments import results, runner
from switch_np.experiments.experiment import Experiment
from switch_np.experiments.results import Results
from switch_np.experiments.runner import Outcome
from switch_np.operations import check

NAMES = ("table1", "table2", "table3", "table4", "figure4", "noise", "distillation")


def load(name: str) -> Experiment:
    """Return an experiment; its file is imported when it is asked for.

    >>> load("noise").arms[0].name
    'argmax'
    """
    check.choice("name", name, NAMES)
    return import_module(f"{__name__}.{name}").EXPERIMENT


def read(name: str) -> Results:
    """Return the full results that are kept in the repository, as dicts of arrays."""
    check.choice("name", name, NAMES)
    return results.read(name)


def run_live(name: str, arm: str, steps: int, seed: int = 0) -> Outcome:
    """Train one arm of an experiment for a few steps, here and now; nothing is written.

    The schedule of the learning rate is that of a run of `steps` steps.
    """
    shortened = load(name).shortened(steps)
    arms = {each.name: each for each in shortened.arms}
    check.choice("arm", arm, list(arms))
    if arms[arm].needs:
        raise ValueError(f"arm must need no other arm's run, got {arm!r}, which needs "
                         f"{arms[arm].needs!r}")
    return runner.complete(arms[arm], seed)
