"""The learning rates of table 1 and figure 4: each model at three rates, on seeds not judged.

Each arm of the two experiments trains at the rate that is best for its model here. The seeds begin
at 100; those of the tables begin at 0.
"""

from dataclasses import replace

import numpy as np

from switch_np import plots
from switch_np.experiments import results, toy
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.results import Results, by_arm, spreads
from switch_np.training.train_config import TrainConfig
from switch_np.transformer.model_config import ModelConfig

RATES = (0.01, 0.02, 0.03)

# The experts' factor is 1.25 throughout, the toy's own.
MODELS: dict[str, tuple[str, ModelConfig]] = {
    "dense": ("dense", toy.dense()), "large": ("dense, large", toy.large()),
    **{f"switch-{count}": (f"Switch, {count} experts", toy.switch(num_experts=count))
       for count in (2, 4, 8, 16, 32, 64)},
    "moe": ("MoE top-2", toy.switch(top_k=2)), "plus": ("Switch+", toy.plus())}


def name_of(model: str, rate: float) -> str:
    """Return the arm of this model and rate."""
    return f"{model}-rate-{rate:g}"


def best(found: Results, model: str) -> float:
    """Return the rate with the best mean."""
    bits = by_arm(found.rows, "bits_per_byte")
    means = {rate: bits[name_of(model, rate)].mean() for rate in RATES}
    return min(means, key=lambda rate: np.nan_to_num(means[rate], nan=np.inf))


def summary(found: Results) -> list[dict[str, str]]:
    """Return each model's bits per byte by rate, and its best rate."""
    bits = spreads(by_arm(found.rows, "bits_per_byte"), 3)
    known = [model for model in MODELS if name_of(model, RATES[-1]) in bits]
    return results.words(known, {
        "model": {model: MODELS[model][0] for model in known},
        **{f"rate {rate:g}": {model: bits[name_of(model, rate)] for model in known}
           for rate in RATES},
        "best": {model: f"{best(found, model):g}" for model in known}})


def draw(found: Results) -> plots.Figure:
    """Draw quality against the rate, a line per model."""
    bits = by_arm(found.rows, "bits_per_byte")
    figure, axes = plots.figure(size=(9, 6))
    plots.ranges(axes[0, 0], {label: {rate: bits[name_of(model, rate)] for rate in RATES}
                              for model, (label, _) in MODELS.items()},
                 "peak learning rate", "held-out bits per byte (lower is better)",
                 {rate: f"{rate:g}" for rate in RATES})
    rates = {best(found, model) for model in MODELS}
    plots.finding(axes[0, 0], "the best rate of each model is "
                  + " or ".join(f"{rate:g}" for rate in sorted(rates)))
    return figure


EXPERIMENT = Experiment("rates", tuple(
    Arm(name_of(model, rate), config, TrainConfig(learning_rate=rate), f"{label}, {rate:g}")
    for model, (label, config) in MODELS.items() for rate in RATES), summary, draw, seeds=(100,))
