"""The paper's claims at toy scale: `python -m switch_np table NAME`.

An experiment is one file: its docstring says what the paper claims and what is run here, and its
`EXPERIMENT` holds the arms, each trained once per seed. To add one, write the file and add its name
to `NAMES`; README.md beside this file tells what they show. In reading order:

The experiments
    `table1`: Switch, MoE top-2 and dense; `table2`: number formats; `table3`: initialization;
    `table4`: dropout in fine-tuning; `figure4`: numbers of experts; `memory`: the same on a task
    that needs nothing but parameters; `exploration`: noise in the router (called "noise" by the
    command and in the results); `distillation`: Switch into dense; `balance`: the balance loss,
    and three ways to do without. `rates` and `memory_rates`: the sweeps that found the learning
    rates.
What an experiment is made of
    `statistics`: intervals and grades; `results`: CSV files, tables as dicts of arrays and as
    words; `experiment`: arms, claims, experiments; `runner`: one run, which can be stopped and
    resumed; `pool`: many runs in several processes; `folder`: what they leave on disk.
What some experiments need
    `toy`: models and text; `flops`: operations of a training step; `speed`: timing in turns;
    `soft_cross_entropy` (distillation), `memory_network` (memory), `activation_sizes` (table3),
    `character_names` (table4).

`commands` and notebooks import these modules, and `plots` imports `results`; nothing else does.
"""

from importlib import import_module

from switch_np.experiments import results, runner, statistics
from switch_np.experiments.experiment import Claim, Experiment
from switch_np.experiments.results import Results
from switch_np.experiments.runner import Outcome
from switch_np.experiments.statistics import Effect
from switch_np.operations import check, signatures

NAMES = ("table1", "table2", "table3", "table4", "figure4", "rates", "memory", "memory-rates",
         "noise", "distillation", "balance")
_FILES = {"noise": "exploration", "memory-rates": "memory_rates"}     # where file and name differ


def load(name: str) -> Experiment:
    """Return an experiment, importing its file.

    >>> load("noise").arms[0].name
    'argmax'
    """
    check.choice("name", name, NAMES)
    found: Experiment = import_module(f"{__name__}.{_FILES.get(name, name)}").EXPERIMENT
    return found


def read(name: str) -> Results:
    """Return the full results kept in the repository, as dicts of arrays."""
    check.choice("name", name, NAMES)
    return results.read(name)


def claims(name: str) -> dict[str, tuple[Claim, Effect]]:
    """Return the claims of an experiment and what the kept results show of each."""
    found = read(name)
    return {claim.name: (claim, claim.effect(found)) for claim in load(name).claims}


def confirm(name: str, claim: str, grade: str) -> Effect:
    """Return what the kept results show of a claim; AssertionError if its grade is another.

    A sentence that compares stands beside such a call.
    """
    known = {each.name: each for each in load(name).claims}
    check.choice("claim", claim, list(known))
    check.choice("grade", grade, statistics.GRADES)
    effect = known[claim].effect(read(name))
    assert effect.grade == grade, f"{name}, {claim}: {effect}, and not {grade}"
    return effect


@signatures.checked
def run_live(name: str, arm: str, steps: int, seed: int = 0) -> Outcome:
    """Train one arm of an experiment for a few steps in this process, and write nothing.

    The learning rate follows the schedule of a run of `steps` steps.
    """
    arms = {each.name: each for each in load(name).shortened(steps).arms}
    check.choice("arm", arm, list(arms))
    if needed := arms[arm].needs:
        raise ValueError(f"arm must not need another's run, got {arm!r}, which needs {needed!r}")
    outcome = runner.complete(arms[arm], seed)
    assert outcome is not None             # nothing could stop it
    return outcome
