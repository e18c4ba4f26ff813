"""Figure 4: more experts, the same operations per token.

The paper: the test loss falls steadily with 1, 2, 4 ... 256 experts, and 64 experts reach in 60,000
steps what T5-Base reaches in 450,000.

Here: the toy with 1 expert (dense) to 64, factor 1.25: loss against steps, against time and against
parameters, and a step's time against the number of experts, in the fixed buffers and packed. Equal
are the products per token; the router's own work, and what is handled once per expert, grow.

The review of the paper writes the balance loss without the factor N. Then it grows weaker the more
experts there are; two arms show that with 16 and 64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_np.experiments import speed, toy
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.results import Results, Table, by_arm, curve, select, steps_to
from switch_np.experiments.words import mean_and_spread
from switch_np.training import corpus as corpora
from switch_np.training.trainer import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERTS = (1, 2, 4, 8, 16, 32, 64)
WITHOUT_N = (16, 64)
PAPER_SPEEDUP = 450 / 60       # in steps, of 64 experts over dense


def _arms() -> tuple[Arm, ...]:
    arms = [Arm("experts-1", toy.dense(), label="1 (dense)")]
    arms += [Arm(f"experts-{count}", toy.switch(num_experts=count), label=f"{count}")
             for count in EXPERTS[1:]]
    for count in WITHOUT_N:
        config = toy.switch(num_experts=count)
        arms.append(Arm(f"experts-{count}-without-N", replace(
            config, balance_coef=config.balance_coef / count), label=f"{count}, loss without N"))
    return tuple(arms)


def name_of(count: int) -> str:
    """Return the arm with so many experts."""
    return f"experts-{count}"


def time_steps(rounds: int, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Time a step of each trained model, in both layouts."""
    both = {}
    for count in EXPERTS:
        for layout in ("buffers", "packed") if count > 1 else ("both",):
            run = both[name_of(count), layout] = copy.deepcopy(runs[name_of(count)])
            if count > 1:
                run.model_config = toy.switch(run.model_config, layout=layout)
    timed = speed.of_training({" ".join(key): run for key, run in both.items()}, corpora.load(),
                              f"{name_of(1)} both", 3 * rounds)
    return [{"layout": layout, **row, "arm": arm} for row in timed
            for arm, layout in [row["arm"].split()]]


def step_ratios(timings: Table, layout: str) -> dict[int, float]:
    """Return a step's time as a multiple of dense's, by the number of experts; none untimed."""
    found = {}
    for count in EXPERTS if timings else ():
        mine = select(timings, arm=name_of(count))
        there = np.isin(mine["layout"], ["both", layout])
        found[count] = float(mine["ratio"][there][0])
    return found


def steps_to_dense(found: Results) -> dict[str, float]:
    """Return after how many steps each arm's mean curve reaches what dense ends with."""
    level = by_arm(found.rows, "bits_per_byte")[name_of(1)].mean()
    return {arm: steps_to(steps, values.mean(axis=0), level)
            for arm in by_arm(found.rows, "seed")
            for steps, values in [curve(found.curves, arm, "bits_per_byte")]}


def falls_to(found: Results) -> int:
    """Return the number of experts up to which each doubling lowers the mean loss."""
    bits = by_arm(found.rows, "bits_per_byte")
    means = [bits[name_of(count)].mean() for count in EXPERTS]
    rises = [n for n in range(1, len(means)) if not means[n] < means[n - 1]]
    return EXPERTS[rises[0] - 1] if rises else EXPERTS[-1]


def summary(found: Results) -> list[dict[str, str]]:
    """Return size, quality, speed and steps to dense's quality by the number of experts."""
    bits, params = by_arm(found.rows, "bits_per_byte"), by_arm(found.rows, "params")
    dropped, reached = by_arm(found.rows, "dropped"), steps_to_dense(found)
    ratios = {layout: step_ratios(found.speed, layout) for layout in ("buffers", "packed")}
    rows = []
    for arm in bits:
        row = {"experts": EXPERIMENT.labels[arm], "parameters": f"{params[arm][0]:,.0f}",
               "bits per byte": mean_and_spread(bits[arm], 3),
               "neg. log perp.": mean_and_spread(-bits[arm] * np.log(2), 3),
               "dropped %": mean_and_spread(100 * dropped[arm], 1),
               "dense's quality after\nso much of its steps": "never" if np.isnan(
                   reached[arm]) else f"{reached[arm] / reached[name_of(1)]:.2f}"}
        for layout, ratio in ratios.items():
            if ratio:
                times = {name_of(count): f"{value:.2f}" for count, value in ratio.items()}
                row[f"step time to dense,\n{layout}"] = times.get(arm, "")
        rows.append(row | {"paper's share\nof dense's steps": {
            name_of(1): "1.00", name_of(64): f"{1 / PAPER_SPEEDUP:.2f}"}.get(arm, "")})
    return rows


def looks() -> dict[str, tuple[str, str]]:
    """Return colour and dashes per arm: the darker, the more experts; dense stands out."""
    import matplotlib

    shades = matplotlib.colormaps["viridis_r"](np.linspace(0.15, 1, len(EXPERTS) - 1))
    return {name_of(1): ("#D55E00", "--")} | {
        name_of(count): (matplotlib.colors.to_hex(shade), "-")
        for count, shade in zip(EXPERTS[1:], shades)}


def draw(found: Results) -> Figure:
    """Draw loss against steps, time and parameters, and step time against experts."""
    from switch_np import plots

    labels, bits = EXPERIMENT.labels, by_arm(found.rows, "bits_per_byte")
    low, high = (function(list(map(function, bits.values()))) for function in (np.min, np.max))
    zoom = dict(ylim=(low - 0.02, high + 0.3), looks=looks())
    made, axes = plots.figure(2, 2, size=(13, 9))
    shown = {arm: label for arm, label in labels.items() if "without" not in arm}
    plots.curves_by_arm(axes[0, 0], found.curves, shown, "bits_per_byte",
                        "held-out bits per byte", **zoom)
    plots.finding(axes[0, 0], _reached(found))
    _draw_size(axes[1, 0], found)
    ratios = step_ratios(found.speed, "packed")
    if not ratios:
        for ax in axes[:, 1]:
            ax.text(0.5, 0.5, "speed was not measured", ha="center")
            ax.set_axis_off()
        return made
    scale = {name_of(count): ratio for count, ratio in ratios.items()}
    plots.curves_by_arm(axes[0, 1], found.curves, shown, "bits_per_byte",
                        "held-out bits per byte", x_scale=scale,
                        xlabel="time, in steps of the dense model (packed)", **zoom)
    plots.finding(axes[0, 1], _reached(found, ratios))
    plots.trends(axes[1, 1], {layout: step_ratios(found.speed, layout) for layout in (
        "buffers", "packed")}, "experts", "step time, as a multiple of dense's",
        {count: f"{count}" for count in EXPERTS})
    plots.finding(axes[1, 1], f"with equal products per token a step with {EXPERTS[-1]} experts "
                  f"takes {ratios[EXPERTS[-1]]:.2f} times dense's (packed)")
    return made


def _reached(found: Results, ratios: Mapping[int, float] | None = None) -> str:
    """Say which number of experts reaches dense's quality first, in steps or in time."""
    reached = steps_to_dense(found)
    cost = {count: reached[name_of(count)] * (1 if ratios is None else ratios[count])
            for count in EXPERTS}
    best = min(cost, key=lambda count: np.nan_to_num(cost[count], nan=np.inf))
    unit = "steps" if ratios is None else "time"
    return (f"first at dense's final quality: {best} expert{'s' * (best > 1)}, in "
            f"{cost[best] / cost[1]:.2f} of dense's {unit}")


def _draw_size(ax: Any, found: Results) -> None:
    """Draw final loss against parameters, with and without the factor N."""
    from switch_np import plots

    bits, params = by_arm(found.rows, "bits_per_byte"), by_arm(found.rows, "params")
    sets = {"with the paper's balance loss": [name_of(count) for count in EXPERTS],
            "without its factor N": [f"{name_of(count)}-without-N" for count in WITHOUT_N]}
    plots.ranges(ax, {label: {params[arm][0]: bits[arm] for arm in arms}
                      for label, arms in sets.items()}, "parameters (experts)",
                 "held-out bits per byte",
                 {params[name_of(count)][0]: f"{params[name_of(count)][0] / 1000:.0f}k\n({count})"
                  for count in EXPERTS})
    last = falls_to(found)
    plots.finding(ax, "each doubling of the experts lowers the mean loss"
                  if last == EXPERTS[-1] else
                  f"each doubling lowers the mean loss up to {last} experts" if last > 1 else
                  "the second expert does not lower the mean loss")


EXPERIMENT = Experiment("figure4", _arms(), summary, draw, speed=time_steps)
