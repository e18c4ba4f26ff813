"""What an experiment is: arms, each trained once per seed, and the claims they are to judge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_np.experiments import results, statistics
from switch_np.experiments.results import Results
from switch_np.experiments.statistics import Effect
from switch_np.model import Loss
from switch_np.operations import check, tree
from switch_np.training import corpus as corpora, trainer
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def advance(run: Run, corpus: Any, source: Run | None) -> tuple[Loss, float]:
    """Take one step of the trainer."""
    return trainer.advance(run, corpus)


def held_out(run: Run, corpus: Any) -> dict[str, float]:
    """Return the bits per byte on the whole held-out text."""
    return {"bits_per_byte": trainer.evaluate(run, corpus.held_out)}


def copy_weights(run: Run, source: Run) -> None:
    """Copy every weight that both runs have under one name: for dense, all but the experts."""
    taught = tree.flatten(source.params)
    for name, value in tree.flatten(run.params).items():
        if name in taught:
            value[:] = taught[name]


@dataclass(frozen=True)
class Arm:
    """One way to train, run once per seed.

    The functions are sent to other processes, so they must be a module's own, not lambdas.

    >>> Arm("dense", ModelConfig(switch_every=0)).train.steps
    1200
    """

    name: str                          # for folders and CSV files
    model: ModelConfig
    train: TrainConfig = field(default_factory=TrainConfig)       # its seed is replaced by each
    label: str = ""                    # for pictures and tables; default: the name
    needs: str = ""                    # an arm whose finished run of the same seed is `source`
    once: bool = False                 # trained with seed 0 only, for any seed of those in need
    # begin(run, source): change a run in place before its first step.
    begin: Callable[[Run, Run], None] | None = None
    # advance(run, corpus, source): take a step in place; return loss and gradients' norm.
    advance: Callable[[Run, Any, Run | None], tuple[Loss, float]] = advance
    # Numbers by name, evaluate's at each point of the curve, conclude's of the finished run.
    evaluate: Callable[[Run, Any], Mapping[str, float]] = held_out
    conclude: Callable[[Run, Any], Mapping[str, float]] | None = None
    corpus: Callable[[], Any] = corpora.load      # returns what `advance` and `evaluate` take

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][\w.-]*", self.name):
            raise ValueError(f"name must be a letter and then letters, digits, '.', '-' or '_', "
                             f"got {self.name!r}")
        if self.begin is not None and not self.needs:
            raise ValueError(f"needs must name an arm if begin is given, got '' for {self.name!r}")
        object.__setattr__(self, "label", self.label or self.name)

    def options(self) -> dict[str, Any]:
        """Return the options that tell two arms apart, ready for JSON.

        Arms of two experiments that need no other arm and have the same options are one run.
        """
        train = {name: value for name, value in asdict(self.train).items() if name != "seed"}
        functions = {name: _name_of(getattr(self, name))
                     for name in ("advance", "evaluate", "conclude", "corpus")}
        return {"model": self.model.to_dict(), "training": train, "needs": self.needs,
                "functions": functions}


def _name_of(function: Callable[..., Any] | None) -> str:
    """Return what tells a function from others, including the options of a `partial`."""
    if isinstance(function, partial):
        return f"{_name_of(function.func)} {function.keywords}"
    return f"{function.__module__}.{function.__qualname__}" if function else ""


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, and the comparison that judges it.

    >>> claim = Claim("dense", "Switch beats dense", "-1.553 against -1.731",
    ...               ahead("switch", "dense", "bits"), "bits ahead")
    >>> rows = {"arm": np.array(["switch", "dense"] * 2), "seed": np.array([0.0, 0.0, 1.0, 1.0]),
    ...         "bits": np.array([2.01, 2.06, 2.02, 2.08])}
    >>> print(claim.effect(Results(rows, {}, {})))
    +0.055 ± 0.064: cannot tell
    """

    name: str                          # for notebooks and messages
    text: str                          # as README has it
    paper: str                         # the paper's numbers
    effect: Callable[[Results], Effect]          # positive in the paper's direction
    unit: str
    primary: bool = False              # the one comparison that the experiment was made for


def effects(claims: Iterable[Claim], found: Results) -> dict[str, Effect]:
    """Return what results show of each claim, by its name."""
    return {claim.name: claim.effect(found) for claim in claims}


def ahead(first: str, second: str, column: str = "bits_per_byte", *, higher_is_better: bool = False,
          margin: float = 0.0) -> Callable[[Results], Effect]:
    """Return how far an arm is ahead of another, seed by seed; `margin` behind counts as level."""
    sign = -1 if higher_is_better else 1
    return contrast({second: sign, first: -sign}, column, margin)


def contrast(weights: Mapping[str, float], column: str = "bits_per_byte", margin: float = 0.0
             ) -> Callable[[Results], Effect]:
    """Return a weighted sum over arms, seed by seed."""
    return lambda found: statistics.measure(results.by_seed(found.rows, column, weights), margin)


def trend(arms: Sequence[str], column: str = "bits_per_byte"
          ) -> Callable[[Results], Effect]:
    """Return how far a straight line through arms falls from each to the next, seed by seed."""
    middle = (len(arms) - 1) / 2
    square = sum((n - middle) ** 2 for n in range(len(arms)))
    return contrast({arm: (middle - n) / square for n, arm in enumerate(arms)}, column)


def steps_saved(fast: str, slow: str, column: str = "bits_per_byte"
                ) -> Callable[[Results], Effect]:
    """Return the fraction of its steps that an arm saves on the way to another's end, by seed."""
    def effect(found: Results) -> Effect:
        (steps, mine), (_, others) = (results.curve(found.curves, arm, column)
                                      for arm in (fast, slow))
        return statistics.measure(np.array([1 - results.steps_to(steps, curve, end) / steps[-1]
                                            for curve, end in zip(mine, others[:, -1])]))
    return effect


@dataclass(frozen=True)
class Experiment:
    """Arms, seeds, and functions that turn their numbers into a table and a picture.

    Table and picture are made of the results of all arms with any seeds.
    """

    name: str                          # for the command line and the result files
    arms: tuple[Arm, ...]              # as they are shown, each after the arm that it needs
    summary: Callable[[Results], list[dict[str, str]]]            # words by column, a dict per row
    draw: Callable[[Results], Figure]
    claims: tuple[Claim, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)                            # unless others are asked for
    kept: tuple[int, ...] = (0, 1, 2, 3, 4)                       # those of the kept results
    # speed(rounds, runs): rows of timings of one seed's finished runs, by arm.
    speed: Callable[[int, Mapping[str, Run]], list[dict[str, Any]]] | None = None

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for arm in self.arms:
            if arm.name in seen:
                raise ValueError(f"arms must have different names, got {arm.name!r} twice")
            if arm.needs and arm.needs not in seen:
                raise ValueError(f"needs must name an arm that comes before {arm.name!r}, got "
                                 f"{arm.needs!r}")
            seen.add(arm.name)
        if (primary := sum(claim.primary for claim in self.claims)) > 1:
            raise ValueError(f"claims must have one that is primary, or none, got {primary}")

    @property
    def labels(self) -> dict[str, str]:
        """Each arm's label, by its name."""
        return {arm.name: arm.label for arm in self.arms}

    def shortened(self, steps: int | None) -> Experiment:
        """Return the experiment with its longest arm cut to `steps`, the others in proportion.

        The warm-up takes at most a tenth of the steps.
        """
        if steps is None:
            return self
        check.integer("steps", steps, 1)
        longest, arms = max(arm.train.steps for arm in self.arms), []
        for arm in self.arms:
            count = max(round(arm.train.steps * steps / longest), 1)
            warmup = min(arm.train.warmup, max(count // 10, 1))
            arms.append(replace(arm, train=replace(arm.train, steps=count, warmup=warmup)))
        return replace(self, arms=tuple(arms))
