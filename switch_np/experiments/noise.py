"""Exploration (appendix C): how the router tries experts other than its favourite.

The paper, negative log perplexity: argmax -1.471, sampling from the softmax -1.570, dropout on the
router's input -1.480, multiplicative jitter on it -1.468, its default.

Here: the toy (16 experts, factor 1.25) with each of the four; jitter 0.01 as in the paper, input
dropout 0.1, a rate on which the paper is silent. All are evaluated without noise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.results import Results, by_arm
from switch_np.experiments.words import mean_and_spread
from switch_np.transformer.model_config import ModelConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = {"argmax": -1.471, "sample": -1.570, "input-dropout": -1.480, "jitter": -1.468}


def _arm(name: str, label: str, **switch: Any) -> Arm:
    toy = ModelConfig()
    return Arm(name, replace(toy, switch=replace(toy.switch, **switch)), label=label)


def summary(found: Results) -> list[dict[str, str]]:
    """Return quality and dropped share of each arm, beside the paper's quality."""
    bits, dropped = by_arm(found.rows, "bits_per_byte"), by_arm(found.rows, "dropped")
    return [{"router": EXPERIMENT.labels[arm],
             "bits per byte": mean_and_spread(bits[arm], 3),
             "neg. log perp.": mean_and_spread(-bits[arm] * np.log(2), 3),
             "dropped %": mean_and_spread(100 * dropped[arm], 1),
             "paper's neg. log perp.": f"{PAPER[arm]:.3f}"} for arm in bits]


def draw(found: Results) -> Figure:
    """Draw quality by arm, and the held-out loss against steps."""
    from switch_np import plots

    labels, bits = EXPERIMENT.labels, by_arm(found.rows, "bits_per_byte")
    made, axes = plots.figure(columns=2, size=(13, 4.5))
    plots.seeds_by_arm(axes[0, 0], bits, "held-out bits per byte (lower is better)",
                       {arm: f"{value:.3f}" for arm, value in PAPER.items()},
                       "the paper: neg. log\nperplexity (higher is better)", labels=labels)
    low, high = (function(list(map(function, bits.values()))) for function in (np.min, np.max))
    plots.curves_by_arm(axes[0, 1], found.curves, labels, "bits_per_byte",
                        "held-out bits per byte", ylim=(low - 0.02, high + 0.3))
    means = {arm: values.mean() for arm, values in bits.items()}
    worst = max(means, key=means.__getitem__)
    rest = [mean for arm, mean in means.items() if arm != worst]
    plots.finding(axes[0, 1], f"{labels[worst]} is {means[worst] - max(rest):.3f} bits behind the "
                  f"next; the others lie within {np.ptp(rest):.3f}")
    return made


EXPERIMENT = Experiment("noise", (
    _arm("argmax", "argmax", jitter=0.0),
    _arm("sample", "sample from the softmax", jitter=0.0, sample=True),
    _arm("input-dropout", "input dropout 0.1", jitter=0.0, router_dropout=0.1),
    _arm("jitter", "input jitter 0.01")), summary, draw, seeds=(0, 1))
