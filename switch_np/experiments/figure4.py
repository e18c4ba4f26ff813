"""Figure 4: more experts, the same operations per token.

The paper: the test loss falls steadily with 1, 2, 4 ... 256 experts, and 64 experts reach in 60,000
steps what T5-Base reaches in 450,000.

Here: the toy with 1 expert (dense), 4, 16 and 64, factor 1.25, dense and Switch each at the best
rate of their kind (`rates`). The products per token are equal; the router's own work, and what is
done once per expert, grow. The review of the paper writes the balance loss without its factor E,
which makes it weaker the more experts there are; an arm with 64 experts shows that. `memory` is the
same on a task that is short of parameters alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np

from switch_np import plots
from switch_np.experiments import rates, results, speed, toy
from switch_np.experiments.experiment import (
    Arm, Claim, Experiment, ahead, effects, steps_saved, trend)
from switch_np.experiments.results import Results, Table, by_arm, curve, intervals, steps_to
from switch_np.experiments.speed import LAYOUTS
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run

EXPERTS = (1, 4, 16, 64)
WITHOUT_E = (64,)
PAPER = {"experts-1": "1.00", "experts-64": f"{60 / 450:.2f}"}      # of dense's steps


def name_of(count: int) -> str:
    """Return the arm with so many experts."""
    return f"experts-{count}"


def time_steps(rounds: int, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Time a step of each trained model, in both layouts."""
    timed = {name_of(count): runs[name_of(count)] for count in EXPERTS}
    return speed.of_layouts(timed, name_of(1), 3 * rounds)


def step_ratios(timings: Table, layout: str) -> dict[int, float]:
    """Return a step's time as a multiple of dense's, by the number of experts; {} if untimed."""
    ratios = speed.ratios(timings, layout)
    return {count: ratios[name_of(count)] for count in EXPERTS if ratios}


def steps_to_dense(found: Results) -> dict[str, float]:
    """Return after how many steps each arm's mean curve reaches dense's final quality."""
    level = by_arm(found.rows, "bits_per_byte")[name_of(1)].mean()
    curves = {arm: curve(found.curves, arm, "bits_per_byte") for arm in by_arm(found.rows, "seed")}
    return {arm: steps_to(steps, values.mean(axis=0), level)
            for arm, (steps, values) in curves.items()}


CLAIMS = (
    Claim("more", "64 experts beat dense at equal steps", "60,000 steps to what T5-Base reaches in "
          "450,000", ahead(name_of(64), name_of(1)), "bits per byte ahead", primary=True),
    Claim("trend", "More experts help, from 1 to 64", "the loss falls steadily to 256",
          trend([name_of(count) for count in EXPERTS]), "bits per byte per fourfold number"),
    Claim("last step", "64 experts beat 16", "the same", ahead(name_of(64), name_of(16)),
          "bits per byte ahead"),
    Claim("few", "Already 4 experts beat dense", "appendix D", ahead(name_of(4), name_of(1)),
          "bits per byte ahead"),
    Claim("steps saved", "64 experts need a fraction of dense's steps", "they save 87 %",
          steps_saved(name_of(64), name_of(1)), "of dense's steps saved"),
    Claim("factor E", "The balance loss needs its factor E (the review leaves it out)", "α E Σ f P",
          ahead(name_of(64), f"{name_of(64)}-without-E"), "bits per byte ahead"))


def summary(found: Results) -> list[dict[str, str]]:
    """Return each arm's size, quality, speed and steps to dense's quality."""
    bits, params = by_arm(found.rows, "bits_per_byte"), by_arm(found.rows, "params")
    reached = steps_to_dense(found)
    shares = {arm: steps / reached[name_of(1)] for arm, steps in reached.items()}
    ratios = {layout: speed.ratios(found.speed, layout) for layout in LAYOUTS if found.speed}
    return results.words(bits, {
        "experts": EXPERIMENT.labels,
        "parameters": {arm: f"{count[0]:,.0f}" for arm, count in params.items()},
        "bits per byte": intervals(bits, 3), "neg. log perp.": intervals(bits, 3, -np.log(2)),
        "dropped %": intervals(by_arm(found.rows, "dropped"), 1, 100),
        "dense's quality after\nso much of its steps": {
            arm: "never" if np.isnan(share) else f"{share:.2f}" for arm, share in shares.items()},
        **{f"step time to dense,\n{layout}": {arm: f"{times:.2f}" for arm, times in ratio.items()}
           for layout, ratio in ratios.items()},
        "paper's share\nof dense's steps": PAPER})


def looks() -> dict[str, tuple[str, str]]:
    """Return colour and dashes per arm: the darker, the more experts; dense stands out."""
    shades = plots.shades(len(EXPERTS) - 1)
    return {name_of(1): ("#D55E00", "--")} | {
        name_of(count): (shade, dashes)
        for count, shade, dashes in zip(EXPERTS[1:], shades, cycle(("-", "-.", ":")))}


def draw(found: Results) -> plots.Figure:
    """Draw loss against steps, time and parameters, and step time against experts."""
    ends = found.rows["bits_per_byte"]
    zoom: dict[str, Any] = dict(ylim=(ends.min() - 0.02, ends.max() + 0.3), looks=looks())
    figure, axes = plots.figure(2, 2, size=(13, 9))
    shown = {arm: label for arm, label in EXPERIMENT.labels.items() if "without" not in arm}
    plots.curves_by_arm(axes[0, 0], found.curves, shown, **zoom)
    plots.finding(axes[0, 0], _first(found, dict.fromkeys(EXPERTS, 1.0), "steps"))
    _draw_size(axes[1, 0], found)
    if not found.speed:
        plots.finding(axes[0, 1], "speed was not measured")
        return figure
    plots.curves_by_arm(axes[0, 1], found.curves, shown,
                        x_scale=speed.ratios(found.speed, "packed"),
                        xlabel="time, in steps of the dense model (packed)", **zoom)
    ratios = {layout: step_ratios(found.speed, layout) for layout in LAYOUTS}
    plots.finding(axes[0, 1], _first(found, ratios["packed"], "time"))
    plots.trends(axes[1, 1], ratios, "experts", "step time, as a multiple of dense's",
                 {count: f"{count}" for count in EXPERTS})
    plots.finding(axes[1, 1], f"with equal products per token a step with {EXPERTS[-1]} experts "
                  f"takes {ratios['packed'][EXPERTS[-1]]:.2f} times dense's (packed)")
    return figure


def _first(found: Results, cost_of_step: Mapping[int, float], unit: str) -> str:
    """Say which number of experts reaches dense's quality first."""
    reached = steps_to_dense(found)
    cost = {count: reached[name_of(count)] * cost_of_step[count] for count in EXPERTS}
    best = min(cost, key=lambda count: np.nan_to_num(cost[count], nan=np.inf))
    return (f"first at dense's final quality: {best} expert{'s' * (best > 1)}, in "
            f"{cost[best] / cost[1]:.2f} of dense's {unit}")


def _draw_size(ax: plots.Axes, found: Results) -> None:
    """Draw final loss against parameters, with and without the factor E."""
    judged = effects(CLAIMS, found)
    bits, params = by_arm(found.rows, "bits_per_byte"), by_arm(found.rows, "params")
    arms = {"with the paper's balance loss": [name_of(count) for count in EXPERTS],
            "without its factor E": [f"{name_of(count)}-without-E" for count in WITHOUT_E]}
    sizes = {params[name_of(count)][0]: count for count in EXPERTS}
    plots.ranges(ax, {label: {params[arm][0]: bits[arm] for arm in names}
                      for label, names in arms.items()}, "parameters (experts)",
                 "held-out bits per byte",
                 {size: f"{size / 1000:.0f}k\n({count})" for size, count in sizes.items()})
    plots.finding(ax, f"four times the experts save {judged['trend']}")


MODELS = {1: toy.dense()} | {count: toy.switch(num_experts=count) for count in EXPERTS[1:]}



def _train(count: int) -> TrainConfig:
    return rates.tuned("dense" if count == 1 else "switch")


EXPERIMENT = Experiment("figure4", (
    *(Arm(name_of(count), model, _train(count), f"{count}" + " (dense)" * (count == 1))
      for count, model in MODELS.items()),
    *(Arm(f"{name_of(count)}-without-E", replace(
        MODELS[count], balance_coef=MODELS[count].balance_coef / count), _train(count),
        f"{count}, loss without E") for count in WITHOUT_E)),
    summary, draw, CLAIMS, speed=time_steps)
