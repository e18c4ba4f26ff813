"""What an experiment is: arms, each trained once per seed, and what is made of their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from switch_np.experiments.results import Results
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
        """Return the options that tell two arms apart, ready for JSON."""
        train = {name: value for name, value in asdict(self.train).items() if name != "seed"}
        return {"model": self.model.to_dict(), "training": train, "needs": self.needs}


@dataclass(frozen=True)
class Experiment:
    """Arms, seeds, and functions that turn their numbers into a table and a picture.

    Table and picture are made of the results of all arms with any seeds.
    """

    name: str                          # for the command line and the result files
    arms: tuple[Arm, ...]              # as they are shown, each after the arm that it needs
    summary: Callable[[Results], list[dict[str, str]]]            # words by column, a dict per row
    draw: Callable[[Results], Figure]
    seeds: tuple[int, ...] = (0, 1, 2)                            # those of a full run
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
