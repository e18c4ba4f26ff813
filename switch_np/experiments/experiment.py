"""What an experiment is: arms, each trained once per seed, and what is made of their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from switch_np.experiments.results import Results
from switch_np.model import Loss
from switch_np.operations import check
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


@dataclass(frozen=True)
class Arm:
    """One way to train, run once per seed.

    The functions are sent to other processes, so they must be a module's own, not lambdas.

    Parameters
    ----------
    name, label
        For folders and CSV files; for pictures and tables (default: the name).
    model, train
        The options. `train.seed` is replaced by each seed.
    needs
        The name of an arm whose finished run of the same seed is `source` below; None without.
    begin, advance
        begin(run, source) changes a run in place before its first step; advance(run, corpus,
        source) takes a step in place, and returns the loss and the gradients' norm.
    evaluate, conclude
        evaluate(run, corpus): numbers by name, measured at each point of the curve;
        conclude(run, corpus): more of them for the row of the finished run.
    corpus
        Returns the text, or whatever `advance` and `evaluate` take.

    Examples
    --------
    >>> Arm("dense", ModelConfig(switch_every=0)).train.steps
    1200
    """

    name: str
    model: ModelConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    label: str = ""
    needs: str = ""
    begin: Callable[[Run, Run], None] | None = None
    advance: Callable[[Run, Any, Run | None], tuple[Loss, float]] = advance
    evaluate: Callable[[Run, Any], Mapping[str, float]] = held_out
    conclude: Callable[[Run, Any], Mapping[str, float]] | None = None
    corpus: Callable[[], Any] = corpora.load

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

    Parameters
    ----------
    name, seeds
        For the command line and the result files; those of a full run.
    arms
        In the order in which they are shown, each after the arm that it needs.
    summary, draw
        summary(results): the rows of a table, strings by column; draw(results): the picture. Both
        take results with any of the arms and seeds.
    speed
        speed(rounds, runs): rows of timings, taken after all training; `runs` are the finished runs
        of one seed, by arm.
    """

    name: str
    arms: tuple[Arm, ...]
    summary: Callable[[Results], list[dict[str, str]]]
    draw: Callable[[Results], Figure]
    seeds: tuple[int, ...] = (0, 1, 2)
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
        longest = max(arm.train.steps for arm in self.arms)

        def cut(train: TrainConfig) -> TrainConfig:
            count = max(round(train.steps * steps / longest), 1)
            return replace(train, steps=count, warmup=min(train.warmup, max(count // 10, 1)))

        return replace(self, arms=tuple(replace(arm, train=cut(arm.train)) for arm in self.arms))
