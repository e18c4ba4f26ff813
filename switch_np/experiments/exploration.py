"""Exploration (appendix C): how the router tries experts other than its favourite.

The paper, negative log perplexity: argmax -1.471, sampling from the softmax -1.570, dropout on the
router's input -1.480, multiplicative jitter on it, its default, -1.468.

Here: the toy (16 experts, factor 1.25) with each of the four; jitter 0.01 as in the paper, input
dropout 0.1 (the paper names no rate). All are evaluated without noise, and have the rate that is
best with jitter (`rates`).
"""

import numpy as np

from switch_np import plots
from switch_np.experiments import rates, results, toy
from switch_np.experiments.experiment import Arm, Claim, Experiment, ahead, effects
from switch_np.experiments.results import Results, by_arm, intervals

PAPER = {"argmax": -1.471, "sample": -1.570, "input-dropout": -1.480, "jitter": -1.468}

CLAIMS = (
    Claim("jitter", "Input jitter is better than none", "-1.468 against -1.471",
          ahead("jitter", "argmax"), "bits per byte ahead", primary=True),
    Claim("sampling", "Sampling the expert is worse than taking the best", "-1.570 against -1.471",
          ahead("argmax", "sample"), "bits per byte behind"),
    Claim("input dropout", "Input jitter is better than dropout of the router's input",
          "-1.468 against -1.480", ahead("jitter", "input-dropout"), "bits per byte ahead"))
TRAIN = rates.tuned("switch")


def summary(found: Results) -> list[dict[str, str]]:
    """Return each arm's quality and dropped tokens, beside the paper's quality."""
    bits = by_arm(found.rows, "bits_per_byte")
    return results.words(bits, {
        "router": EXPERIMENT.labels, "bits per byte": intervals(bits, 3),
        "neg. log perp.": intervals(bits, 3, -np.log(2)),
        "dropped %": intervals(by_arm(found.rows, "dropped"), 1, 100),
        "paper's neg. log perp.": {arm: f"{value:.3f}" for arm, value in PAPER.items()}})


def draw(found: Results) -> plots.Figure:
    """Draw quality by arm, and the held-out loss against steps."""
    judged = effects(CLAIMS, found)
    labels, bits = EXPERIMENT.labels, by_arm(found.rows, "bits_per_byte")
    figure, axes = plots.figure(columns=2, size=(13, 4.5))
    plots.seeds_by_arm(axes[0, 0], bits, "held-out bits per byte (lower is better)",
                       {arm: f"{value:.3f}" for arm, value in PAPER.items()},
                       "the paper: neg. log\nperplexity (higher is better)", labels=labels)
    ends = found.rows["bits_per_byte"]
    plots.curves_by_arm(axes[0, 1], found.curves, labels,
                        ylim=(ends.min() - 0.02, ends.max() + 0.3))
    plots.finding(axes[0, 1], f"jitter against argmax {judged['jitter']}; argmax against "
                  f"sampling {judged['sampling']}")
    return figure


EXPERIMENT = Experiment("noise", (
    Arm("argmax", toy.switch(jitter=0.0), TRAIN),
    Arm("sample", toy.switch(jitter=0.0, sample=True), TRAIN, "sample from the softmax"),
    Arm("input-dropout", toy.switch(jitter=0.0, router_dropout=0.1), TRAIN, "input dropout 0.1"),
    Arm("jitter", toy.switch(), TRAIN, "input jitter 0.01")), summary, draw, CLAIMS)
