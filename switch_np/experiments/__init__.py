"""The paper's tables at toy scale: `python -m switch_np table NAME`.

README.md beside this file tells what they show.

table1               Switch, two experts per token, and dense, at equal steps and in time
table2               float32, bfloat16 and selective precision
table3               a smaller initialization
table4               expert dropout when fine-tuning
figure4              more experts at equal operations per token
noise                appendix C: how the router explores
distillation         a trained Switch model into its dense counterpart

What they share:

experiment           arms, each trained once per seed, and what is made of their numbers
toy                  the models and the text
runner               one run: an arm and a seed; it can stop and continue
pool                 many runs in several processes
results              the numbers as CSV files, and back
words                numbers in words
speed                which model's step is faster, measured in turns
flops                floating-point operations of a training step
activations          how large activations are, block by block
soft_cross_entropy   cross-entropy against a teacher's probabilities
character_names      a small task to fine-tune on

A new experiment is a file with an `EXPERIMENT` that holds its arms, and a name in `NAMES`.
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
