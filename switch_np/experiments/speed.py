"""Which model's step is faster, and by how much: measured in turns, in one process.

A machine is never quiet, and its clock speed varies. So the models take turns, one step each, and
each round starts with another model and gives each model's ratio to the base model; the claims rest
on the median. What is measured is the CPU time of this process, which other processes disturb
least. Seconds are kept for a sense of scale: do not compare them between runs.
"""

import copy
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from switch_np.experiments import flops, toy
from switch_np.experiments.results import Table, select
from switch_np.experiments.statistics import Effect, measure
from switch_np.operations import check
from switch_np.training import corpus as corpora, trainer
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import Run


LAYOUTS = ("buffers", "packed")


class Timing(NamedTuple):
    """A step's median seconds, its median ratio to the base model's, and how certain that is.

    `half` is half of the 95 % interval of the ratio's mean over the rounds, without the outer
    tenth at either end: a machine that pauses once says nothing about a model.
    """

    seconds: float
    ratio: float
    half: float
    rounds: int


def compare(steps: Mapping[str, Callable[[], Any]], base: str, rounds: int) -> dict[str, Timing]:
    """Time each function `rounds` times, in turns, after one round that is not timed.

    >>> steps = {"once": lambda: sum(range(10**5)), "thrice": lambda: sum(range(3 * 10**5))}
    >>> found = compare(steps, base="once", rounds=9)
    >>> found["once"].ratio, 2 < found["thrice"].ratio < 4
    (1.0, True)
    """
    check.choice("base", base, list(steps))
    check.integer("rounds", rounds, 1)
    names = list(steps)
    seconds = {name: np.zeros(rounds + 1) for name in names}
    for count in range(rounds + 1):
        turn = count % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.process_time()
            steps[name]()
            seconds[name][count] = time.process_time() - begin
    found = {}
    for name, mine in seconds.items():
        ratios = mine[1:] / seconds[base][1:]                 # the first round is not timed
        cut = rounds // 10
        inner = np.sort(ratios)[cut:rounds - cut]
        found[name] = Timing(float(np.median(mine[1:])), float(np.median(ratios)),
                             measure(inner).half, len(inner))
    return found


def of_training(runs: Mapping[str, Run], corpus: Corpus, base: str,
                rounds: int) -> list[dict[str, Any]]:
    """Time training steps of several runs, which they advance; return a row per run.

    A row has `Timing`'s numbers, and the operations of a step with full buffers over the base's.
    """
    found = compare({name: partial(trainer.advance, run, corpus) for name, run in runs.items()},
                    base, rounds)
    work = {name: flops.step(run.model_config, run.config.batch_size, run.config.seq_len)
            for name, run in runs.items()}
    return [{"arm": name, "milliseconds": 1000 * seconds, "ratio": ratio, "half": half,
             "rounds": rounds, "flops_ratio": work[name] / work[base]}
            for name, (seconds, ratio, half, rounds) in found.items()]


def of_layouts(runs: Mapping[str, Run], base: str, rounds: int) -> list[dict[str, Any]]:
    """Time copies of the runs in both layouts, the dense `base` in one; each row has a layout."""
    copies = {}
    for arm in runs:
        for layout in ("both",) if arm == base else LAYOUTS:
            run = copies[f"{arm} {layout}"] = copy.deepcopy(runs[arm])
            if layout != "both":
                run.model_config = toy.switch(run.model_config, layout=layout)
    rows = of_training(copies, corpora.load(), f"{base} both", rounds)
    return [{"layout": layout, **row, "arm": arm} for row in rows
            for arm, layout in [row["arm"].split()]]


def ratios(timings: Table, layout: str) -> dict[str, float]:
    """Return each arm's time per step in one layout, as a multiple of dense's; {} if untimed."""
    if not timings:
        return {}
    return {arm: float(ratio) for arm, where, ratio in zip(
        timings["arm"].tolist(), timings["layout"], timings["ratio"]) if where in ("both", layout)}


def gap(timings: Table, slow: str, fast: str, layout: str) -> Effect:
    """Return how much longer a step of one arm takes than another's, in steps of the base model."""
    rows = [select(timings, arm=arm, layout=layout) for arm in (slow, fast)]
    if not all(rows) or not all(len(row["arm"]) for row in rows):
        return measure(np.array([]))
    (slower,), (faster,) = (row["ratio"] for row in rows)
    half = float(np.hypot(*(row["half"][0] for row in rows)))
    return Effect(float(slower - faster), half, 0.0, int(rows[0]["rounds"][0]), samples="rounds")
