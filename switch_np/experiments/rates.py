"""The learning rates of table 1 and figure 4: each model at three rates, on a seed apart.

Each arm trains at the rate that is best here for its kind of model. The seeds begin at 100; those
of the tables begin at 0.
"""

from functools import partial

import numpy as np

from switch_np import plots
from switch_np.experiments import results, toy
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.results import Results, by_arm
from switch_np.training.train_config import TrainConfig
from switch_np.transformer.model_config import ModelConfig

RATES = (0.01, 0.02, 0.03)

# 16 experts and factor 1.25, the toy's own; other numbers and factors take over the rate.
MODELS: dict[str, tuple[str, ModelConfig]] = {
    "dense": ("dense", toy.dense()), "large": ("dense, large", toy.large()),
    "switch": ("Switch", toy.switch()), "moe": ("MoE top-2", toy.switch(top_k=2)),
    "plus": ("Switch+", toy.plus())}

# The best of each: what `best` finds in the kept results.
BEST = {"dense": 0.02, "large": 0.01, "switch": 0.01, "moe": 0.03, "plus": 0.01}


def tuned(model: str, steps: int = 1200) -> TrainConfig:
    """Return the options of a run of this model at its best rate."""
    return TrainConfig(steps=steps, learning_rate=BEST[model])


def name_of(model: str, rate: float) -> str:
    """Return the arm of this model and rate."""
    return f"{model}-rate-{rate:g}"


def by_rate(found: Results, column: str = "bits_per_byte") -> dict[str, dict[float, np.ndarray]]:
    """Return a column's values by model and rate, one per seed."""
    models: dict[str, dict[float, np.ndarray]] = {}
    for arm, values in by_arm(found.rows, column).items():
        model, rate = arm.split("-rate-")
        models.setdefault(model, {})[float(rate)] = values
    return models


def best(found: Results, column: str = "bits_per_byte") -> dict[str, float]:
    """Return each model's rate with the best mean."""
    return {model: min(of_model, key=lambda rate: np.nan_to_num(of_model[rate].mean(), nan=np.inf))
            for model, of_model in by_rate(found, column).items()}


def summary(found: Results, column: str) -> list[dict[str, str]]:
    """Return each model's quality by rate, and its best rate."""
    models, rates = by_rate(found, column), best(found, column)
    every = sorted({rate for of_model in models.values() for rate in of_model})
    return results.words(models, {
        "model": {model: model for model in models},
        **{f"rate {rate:g}": {model: results.mean_and_interval(of_model[rate], 3)
                              for model, of_model in models.items()} for rate in every},
        "best": {model: f"{rate:g}" for model, rate in rates.items()}})


def draw(found: Results, column: str, ylabel: str) -> plots.Figure:
    """Draw quality against the rate, a line per model."""
    models = by_rate(found, column)
    figure, axes = plots.figure(size=(9, 6))
    plots.ranges(axes[0, 0], models, "peak learning rate", f"{ylabel} (lower is better)",
                 {rate: f"{rate:g}" for rate in next(iter(models.values()))})
    chosen = sorted(set(best(found, column).values()))
    plots.finding(axes[0, 0], "each model is best at rate " + " or ".join(map("{:g}".format,
                                                                              chosen)))
    return figure


def sweep(name: str, arms: tuple[Arm, ...], column: str, ylabel: str) -> Experiment:
    """Return the experiment that tries arms named by `name_of`."""
    return Experiment(name, arms, partial(summary, column=column),
                      partial(draw, column=column, ylabel=ylabel), seeds=(100,), kept=(100,))


EXPERIMENT = sweep("rates", tuple(
    Arm(name_of(model, rate), config, TrainConfig(learning_rate=rate), f"{label}, {rate:g}")
    for model, (label, config) in MODELS.items() for rate in RATES),
    "bits_per_byte", "held-out bits per byte")
