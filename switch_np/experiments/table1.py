"""Table 1: Switch, the mixture of two experts per token (MoE top-2), and dense, at equal steps.

The paper, after 100,000 steps with 128 experts: Switch beats MoE and dense models in quality for
time. It does better with smaller capacity factors than MoE does, is faster per step at the same
factor, and faster still with a smaller one; the smaller memory that this needs can be spent on a
wider model (Switch-Base+), which is then the best. (At 1.25 the paper's MoE is slower than at 2.0.)

Here: the toy (16 experts) with dense, MoE and Switch at the factors 2.0, 1.25 and 1.0, and Switch+:
factor 1.0, widened until a step costs as many operations as that of MoE at 2.0, the factor at which
its second choices find room. As in the paper the capacity is not multiplied by k, so MoE at factor
1.0 drops half of its choices at least; all are evaluated at factor 2.0. Dense and Switch have the
same operations per token but for the router.

Speed is measured apart: training steps in turns, in the paper's fixed buffers, whose empty slots
are computed too, and in the packed layout, whose cost follows the kept tokens; at the toy's width,
with the trained models, and at a width where the products outweigh everything else, with models as
they were drawn (their loads are evener than in the first few hundred steps of training). Time to a
quality is steps times the measured ratio of a step to dense's. The quality asked for is that of the
worst run at its end.
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
from switch_np.training import corpus as corpora, trainer
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTORS = (2.0, 1.25, 1.0)

# Of each model: negative log perplexity, hours to -1.50, examples per second.
PAPER = {"dense": (-1.731, None, 1600),
         "moe-2.0": (-1.547, 68.7, 840), "switch-2.0": (-1.554, 72.8, 860),
         "moe-1.25": (-1.559, 80.7, 790), "switch-1.25": (-1.553, 65.0, 910),
         "moe-1.0": (-1.572, 80.1, 860), "switch-1.0": (-1.561, 62.8, 1000),
         "switch-plus": (-1.534, 67.6, 780)}


def models(base: ModelConfig) -> dict[str, tuple[str, ModelConfig]]:
    """Return the label and the config of each arm, around one Switch model."""
    made = {"dense": ("dense", toy.dense(base))}
    for factor in FACTORS:
        made[f"moe-{factor}"] = (f"MoE top-2, {factor}", toy.switch(
            base, top_k=2, capacity_factor=factor))
        made[f"switch-{factor}"] = (f"Switch, {factor}", toy.switch(base, capacity_factor=factor))
    train = TrainConfig()
    plus = toy.widened(made["switch-1.0"][1], made["moe-2.0"][1], train.batch_size, train.seq_len)
    return made | {"switch-plus": ("Switch+, 1.0", plus)}


def wide_toy() -> ModelConfig:
    """Return the width at which a step's time is that of its products: 16 times the toy's work."""
    return toy.switch(replace(ModelConfig(), d_model=128, d_ff=512, num_heads=4, d_kv=32),
                      num_experts=8)


def time_steps(rounds: int, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Time each model in both layouts, at the toy's width and at the wide one."""
    corpus = corpora.load()
    drawn = {name: trainer.start(config, TrainConfig(learning_rate=0.0), corpus)
             for name, (_, config) in models(wide_toy()).items()}
    rows = []
    for size, ready, turns in (("toy", runs, 2 * rounds), ("wide", drawn, rounds)):
        both = {(arm, layout): _in_layout(run, layout) for arm, run in ready.items()
                for layout in ("buffers", "packed") if (arm, layout) != ("dense", "packed")}
        timed = speed.of_training({" ".join(key): run for key, run in both.items()}, corpus,
                                  "dense buffers", turns)
        for row in timed:
            arm, layout = row.pop("arm").split()
            rows.append({"size": size, "layout": "both" if arm == "dense" else layout,
                         "arm": arm, **row})
    return rows


def _in_layout(run: Run, layout: str) -> Run:
    """Return a copy of a run in another layout, with the same text to come."""
    run = copy.deepcopy(run)
    run.model_config = toy.switch(run.model_config, layout=layout)
    return run


def step_ratios(timings: Table, size: str, layout: str) -> dict[str, float]:
    """Return each arm's time per step, as a multiple of dense's, in one layout; none untimed."""
    mine = select(timings, size=size)
    if not mine:
        return {}
    return {arm: float(ratio) for arm, where, ratio in zip(mine["arm"], mine["layout"],
                                                           mine["ratio"])
            if where in ("both", layout)}


def faster(timings: Table, size: str, layout: str = "buffers") -> dict[str, bool]:
    """Say whether the paper's two claims about speed show: by what is compared, True or False."""
    ratio = step_ratios(timings, size, layout)
    found = {f"Switch than MoE at {factor}": ratio[f"switch-{factor}"] < ratio[f"moe-{factor}"]
             for factor in FACTORS}
    for more, less in zip(FACTORS, FACTORS[1:]):
        found[f"Switch at {less} than at {more}"] = (
            ratio[f"switch-{less}"] < ratio[f"switch-{more}"])
    return found


def threshold(found: Results) -> float:
    """Return the bits per byte that all runs reach: those of the worst at its end."""
    return float(np.nanmax(found.rows["bits_per_byte"]))


def steps_to_threshold(found: Results) -> dict[str, np.ndarray]:
    """Return, by arm and seed, after how many steps the held-out text first takes so few bits."""
    level = threshold(found)
    return {arm: np.array([steps_to(*_whole(*curve(found.curves, arm, "bits_per_byte"), row), level)
                           for row in range(len(values))])
            for arm, values in by_arm(found.rows, "bits_per_byte").items()}


def _whole(steps: np.ndarray, values: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    there = np.isfinite(values[row])
    return steps[there], values[row][there]


def summary(found: Results) -> list[dict[str, str]]:
    """Return quality, speed and time to a quality of each arm, beside the paper's."""
    bits, dropped = by_arm(found.rows, "bits_per_byte"), by_arm(found.rows, "dropped")
    reached, level = steps_to_threshold(found), threshold(found)
    ratios = {(size, layout): step_ratios(found.speed, size, layout)
              for size in ("toy", "wide") for layout in ("buffers", "packed")}
    rows = []
    for arm in bits:
        quality, hours, examples = PAPER[arm]
        row = {"model": EXPERIMENT.labels[arm], "bits\nper byte": mean_and_spread(bits[arm], 3),
               "neg. log\nperplexity": mean_and_spread(-bits[arm] * np.log(2), 3),
               "dropped\n%": mean_and_spread(100 * dropped[arm], 1),
               f"steps to\n{level:.3f} bits": mean_and_spread(reached[arm], 0)}
        for layout in ("buffers", "packed"):
            if ratio := ratios["toy", layout]:
                row[f"the same in\ndense's time,\n{layout}"] = mean_and_spread(
                    reached[arm] * ratio[arm], 0)
        row |= {f"examples/s\n/ dense's, {size},\n{layout}": f"{1 / ratio[arm]:.2f}"
                for (size, layout), ratio in ratios.items() if ratio}
        rows.append(row | {
            "paper:\nneg. log\nperplexity": f"{quality:.3f}",
            "paper:\nhours\nto -1.50": "never" if hours is None else f"{hours}",
            "paper:\nexamples/s\n/ T5-Base's": f"{examples / PAPER['dense'][2]:.2f}"})
    return rows


def looks() -> dict[str, tuple[str, str]]:
    """Return colour and dashes per arm: a colour per kind, dashes per factor."""
    made = {"dense": ("#000000", "-"), "switch-plus": ("#009E73", "-")}
    for factor, dashes in zip(FACTORS, ("-", "--", ":")):
        made |= {f"moe-{factor}": ("#D55E00", dashes), f"switch-{factor}": ("#0072B2", dashes)}
    return made


def draw(found: Results) -> Figure:
    """Draw quality and speed by arm, and the held-out loss against steps and against time."""
    from switch_np import plots

    labels, bits = EXPERIMENT.labels, by_arm(found.rows, "bits_per_byte")
    made, axes = plots.figure(2, 2, size=(13, 8.5))
    plots.seeds_by_arm(axes[0, 0], bits, "held-out bits per byte (lower is better)",
                       {arm: f"{PAPER[arm][0]:.3f}" for arm in bits},
                       "the paper: neg. log perplexity (higher is better)", labels=labels,
                       looks=looks())
    last = float(found.rows["steps"].max())
    lowest = min(np.nanmin(values) for values in bits.values())
    zoom = dict(ylim=(lowest - 0.02, threshold(found) + 0.35))
    plots.curves_by_arm(axes[1, 0], found.curves, labels, "bits_per_byte",
                        "held-out bits per byte", looks=looks(), xlim=(0, last), **zoom)
    plots.finding(axes[1, 0], _lead(bits))
    ratios = step_ratios(found.speed, "toy", "buffers")
    if not ratios:
        for ax in axes[:, 1]:
            ax.text(0.5, 0.5, "speed was not measured", ha="center")
            ax.set_axis_off()
        return made
    _draw_speed(axes[0, 1], found)
    plots.curves_by_arm(axes[1, 1], found.curves, labels, "bits_per_byte",
                        "held-out bits per byte", looks=looks(), x_scale=ratios,
                        xlabel="time, in steps of the dense model (fixed buffers)",
                        xlim=(0, last * max(ratios.values())), **zoom)
    plots.finding(axes[1, 1], _first(found, ratios))
    return made


def _draw_speed(ax: Any, found: Results) -> None:
    """Draw examples per second in the wide models, in both layouts, beside the paper's."""
    from switch_np import plots

    labels = EXPERIMENT.labels
    series = {"fixed buffers": {arm: 1 / ratio for arm, ratio in step_ratios(
        found.speed, "wide", "buffers").items()},
        "packed": {arm: 1 / ratio for arm, ratio in step_ratios(
            found.speed, "wide", "packed").items()},
        "the paper": {arm: numbers[2] / PAPER["dense"][2] for arm, numbers in PAPER.items()}}
    plots.series_by_arm(ax, series, "examples per second, as a multiple of dense's; d_model 128",
                        labels)
    shown = faster(found.speed, "wide")
    missing = [what for what, so in shown.items() if not so]
    plots.finding(ax, "fixed buffers: Switch is faster than MoE at each factor, and faster the "
                  "smaller the factor" if not missing else
                  "fixed buffers: not faster is " + ", ".join(missing))


def _lead(bits: Mapping[str, np.ndarray]) -> str:
    """Say by how much the best Switch arm leads dense and MoE at equal steps."""
    means = {arm: values.mean() for arm, values in bits.items()}
    best = {kind: min(value for arm, value in means.items() if arm.startswith(kind))
            for kind in ("dense", "moe", "switch-")}
    said = [f"{abs(best[kind] - best['switch-']):.3f} bits "
            f"{'ahead of' if best['switch-'] < best[kind] else 'behind'} {name}"
            for kind, name in (("dense", "dense"), ("moe", "the best MoE"))]
    return f"at equal steps the best Switch is {said[0]}, {said[1]}"


def _first(found: Results, ratios: Mapping[str, float]) -> str:
    """Say who reaches the common quality first."""
    times = {arm: steps.mean() * ratios[arm] for arm, steps in steps_to_threshold(found).items()}
    arm = min(times, key=lambda name: np.nan_to_num(times[name], nan=np.inf))
    return (f"first at {threshold(found):.3f} bits: {EXPERIMENT.labels[arm]}, in "
            f"{times[arm] / times['dense']:.2f} of dense's time")


EXPERIMENT = Experiment(
    "table1", tuple(Arm(name, config, label=label)
                    for name, (label, config) in models(ModelConfig()).items()),
    summary, draw, speed=time_steps)
