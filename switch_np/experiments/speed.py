"""Which model's step is faster, and how much: measured in turns, in one process.

A machine is never quiet, and its clock rises and falls. So the models take turns, a step each, for
many rounds, each round beginning with another one, and each round gives a ratio to one of them; the
median of the rounds is what is claimed. It is CPU time of this process, which other people's work
stretches least. Seconds are kept for the reader's sense of scale, and are not to be compared with
those of another run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.experiments import flops
from switch_np.operations import check
from switch_np.training import trainer
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import Run


class Timing(NamedTuple):
    """How long a step takes: median seconds, and its ratio to the base model's step.

    `ratio` is the median over the rounds, `low` and `high` their quartiles.
    """

    seconds: float
    ratio: float
    low: float
    high: float


def compare(steps: Mapping[str, Callable[[], Any]], base: str, rounds: int) -> dict[str, Timing]:
    """Time each function `rounds` times, in turns, after a round that is not timed.

    Examples
    --------
    >>> steps = {"once": lambda: sum(range(10**5)), "thrice": lambda: sum(range(3 * 10**5))}
    >>> found = compare(steps, base="once", rounds=9)
    >>> found["once"].ratio, 2 < found["thrice"].ratio < 4
    (1.0, True)
    """
    check.choice("base", base, list(steps))
    check.integer("rounds", rounds, 1)
    names = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for count in range(rounds + 1):
        turn = count % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.process_time()
            steps[name]()
            if count:
                seconds[name].append(time.process_time() - begin)
    found = {}
    for name, mine in seconds.items():
        ratios = np.array(mine) / np.array(seconds[base])
        low, ratio, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
        found[name] = Timing(float(np.median(mine)), ratio, low, high)
    return found


def of_training(runs: Mapping[str, Run], corpus: Corpus, base: str,
                rounds: int) -> list[dict[str, Any]]:
    """Time training steps of several runs; return a row per run, with its operations per step.

    The runs go on by as many steps. Columns: arm, milliseconds; ratio, low and high, as in
    `Timing`; flops_ratio, the operations of a step with full buffers, to the base's.
    """
    found = compare({name: lambda run=run: trainer.advance(run, corpus)
                     for name, run in runs.items()}, base, rounds)
    work = {name: flops.step(run.model_config, run.config.batch_size, run.config.seq_len)
            for name, run in runs.items()}
    return [{"arm": name, "milliseconds": 1000 * timing.seconds, "ratio": timing.ratio,
             "low": timing.low, "high": timing.high, "flops_ratio": work[name] / work[base]}
            for name, timing in found.items()]
