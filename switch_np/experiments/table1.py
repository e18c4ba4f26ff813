"""Table 1: Switch, the mixture of two experts per token (MoE top-2), and dense, at equal steps.

The paper, after 100,000 steps with 128 experts: Switch beats MoE and dense models in quality for
time. It bears small capacity factors better than MoE, is faster per step at the same factor, and
faster still at a smaller one. A wider model for the memory that this saves (Switch-Base+) is best.

Here: the toy (16 experts) as dense, MoE and Switch at three capacity factors, and Switch+: factor
1.0, widened until a step costs as many operations as that of MoE at 2.0, the factor at which its
second choices fit. As in the paper the capacity is not multiplied by k, so MoE at factor 1.0 drops
at least half of its choices; all are evaluated at factor 2.0.

Speed is measured in the paper's fixed buffers, whose empty slots are computed too, and in the
packed layout, whose cost follows the kept tokens: at the toy's width with the trained models, and
at a width at which matrix products dominate with models at initialization (whose loads are more
even than early in training). Time to a quality is steps times the measured ratio of a step to
dense's; the quality is that of the worst run at its end.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np import plots
from switch_np.experiments import results, speed, toy
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.results import Results, Table, by_arm, curve, select, spreads, steps_to
from switch_np.experiments.speed import LAYOUTS
from switch_np.training import corpus as corpora, trainer
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

FACTORS = (2.0, 1.25, 1.0)

# Negative log perplexity, hours to -1.50, examples per second.
PAPER = {"dense": (-1.731, None, 1600),
         "moe-2.0": (-1.547, 68.7, 840), "switch-2.0": (-1.554, 72.8, 860),
         "moe-1.25": (-1.559, 80.7, 790), "switch-1.25": (-1.553, 65.0, 910),
         "moe-1.0": (-1.572, 80.1, 860), "switch-1.0": (-1.561, 62.8, 1000),
         "switch-plus": (-1.534, 67.6, 780)}
PAPER_SPEED = {arm: examples / PAPER["dense"][2] for arm, (_, _, examples) in PAPER.items()}

# Wide enough that a step's time is that of its products: 16 times the toy's work.
WIDE = toy.switch(replace(ModelConfig(), d_model=128, d_ff=512, num_heads=4, d_kv=32),
                  num_experts=8)


def models(base: ModelConfig) -> dict[str, tuple[str, ModelConfig]]:
    """Return the label and the config of each arm, around one Switch model."""
    arms = {"dense": ("dense", toy.dense(base))}
    for factor in FACTORS:
        moe, switch = (toy.switch(base, top_k=k, capacity_factor=factor) for k in (2, 1))
        arms |= {f"moe-{factor}": (f"MoE top-2, {factor}", moe),
                 f"switch-{factor}": (f"Switch, {factor}", switch)}
    train = TrainConfig()
    plus = toy.widened(arms["switch-1.0"][1], arms["moe-2.0"][1], train.batch_size, train.seq_len)
    return arms | {"switch-plus": ("Switch+, 1.0", plus)}


def time_steps(rounds: int, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Time each model in both layouts, at the toy's width and at the wide one."""
    wide = {arm: trainer.start(config, TrainConfig(learning_rate=0.0), corpora.load())
            for arm, (_, config) in models(WIDE).items()}
    return [{"size": size, **row}
            for size, ready, turns in (("toy", runs, 2 * rounds), ("wide", wide, rounds))
            for row in speed.of_layouts(ready, "dense", turns)]


def step_ratios(timings: Table, size: str, layout: str) -> dict[str, float]:
    """Return each arm's time per step, as a multiple of dense's, in one layout; {} if untimed."""
    return speed.ratios(select(timings, size=size), layout)


def faster(timings: Table, size: str, layout: str = "buffers") -> dict[str, bool]:
    """Return whether each comparison of the paper's two claims about speed holds."""
    ratio = step_ratios(timings, size, layout)
    return {f"Switch than MoE at {factor}": ratio[f"switch-{factor}"] < ratio[f"moe-{factor}"]
            for factor in FACTORS} | {
        f"Switch at {less} than at {more}": ratio[f"switch-{less}"] < ratio[f"switch-{more}"]
        for more, less in zip(FACTORS, FACTORS[1:])}


def threshold(found: Results) -> float:
    """Return the bits per byte that all runs reach: those of the worst at its end."""
    return float(np.nanmax(found.rows["bits_per_byte"]))


def steps_to_threshold(found: Results) -> dict[str, np.ndarray]:
    """Return, by arm and seed, after how many steps the held-out text reaches the threshold."""
    curves = {arm: curve(found.curves, arm, "bits_per_byte") for arm in by_arm(found.rows, "seed")}
    return {arm: np.array([steps_to(steps, values, threshold(found)) for values in seeds])
            for arm, (steps, seeds) in curves.items()}


def summary(found: Results) -> list[dict[str, str]]:
    """Return each arm's quality, speed and time to a quality, beside the paper's."""
    bits, reached = by_arm(found.rows, "bits_per_byte"), steps_to_threshold(found)
    ratios = {(size, layout): step_ratios(found.speed, size, layout)
              for size in ("toy", "wide") for layout in LAYOUTS if found.speed}
    return results.words(bits, {
        "model": EXPERIMENT.labels, "bits\nper byte": spreads(bits, 3),
        "neg. log\nperplexity": spreads(bits, 3, -np.log(2)),
        "dropped\n%": spreads(by_arm(found.rows, "dropped"), 1, 100),
        f"steps to\n{threshold(found):.3f} bits": spreads(reached, 0),
        **{f"the same in\ndense's time,\n{layout}": spreads(
            {arm: steps * ratio[arm] for arm, steps in reached.items()}, 0)
           for (size, layout), ratio in ratios.items() if size == "toy"},
        **{f"examples/s\n/ dense's, {size},\n{layout}": {
            arm: f"{1 / times:.2f}" for arm, times in ratio.items()}
           for (size, layout), ratio in ratios.items()},
        "paper:\nneg. log\nperplexity": {arm: f"{quality:.3f}"
                                         for arm, (quality, _, _) in PAPER.items()},
        "paper:\nhours\nto -1.50": {arm: f"{hours or 'never'}"
                                    for arm, (_, hours, _) in PAPER.items()},
        "paper:\nexamples/s\n/ T5-Base's": {arm: f"{ratio:.2f}"
                                            for arm, ratio in PAPER_SPEED.items()}})


def looks() -> dict[str, tuple[str, str]]:
    """Return colour and dashes per arm: a colour per kind, dashes per factor."""
    found = {"dense": ("#000000", "-"), "switch-plus": ("#009E73", "-")}
    for factor, dashes in zip(FACTORS, ("-", "--", ":")):
        found |= {f"moe-{factor}": ("#D55E00", dashes), f"switch-{factor}": ("#0072B2", dashes)}
    return found


def draw(found: Results) -> plots.Figure:
    """Draw quality and speed by arm, and the held-out loss against steps and against time."""
    labels, bits = EXPERIMENT.labels, by_arm(found.rows, "bits_per_byte")
    figure, axes = plots.figure(2, 2, size=(13, 8.5))
    plots.seeds_by_arm(axes[0, 0], bits, "held-out bits per byte (lower is better)",
                       {arm: f"{PAPER[arm][0]:.3f}" for arm in bits},
                       "the paper: neg. log perplexity (higher is better)", labels=labels,
                       looks=looks())
    last = float(found.rows["steps"].max())
    lowest, level = np.nanmin(found.rows["bits_per_byte"]), threshold(found)
    zoom: dict[str, Any] = dict(ylim=(lowest - 0.02, level + 0.35), looks=looks())
    plots.curves_by_arm(axes[1, 0], found.curves, labels, xlim=(0, last), **zoom)
    dense, moe, switch = (min(values.mean() for arm, values in bits.items() if arm.startswith(kind))
                          for kind in ("dense", "moe", "switch-"))
    plots.finding(axes[1, 0], "at equal steps the best Switch is "
                  f"{results.lead(dense - switch, 'bits', 'dense')}, "
                  f"{results.lead(moe - switch, 'bits', 'the best MoE')}")
    if not found.speed:
        plots.finding(axes[0, 1], "speed was not measured")
        return figure
    _draw_speed(axes[0, 1], found)
    ratios = step_ratios(found.speed, "toy", "buffers")
    plots.curves_by_arm(axes[1, 1], found.curves, labels, x_scale=ratios,
                        xlabel="time, in steps of the dense model (fixed buffers)",
                        xlim=(0, last * max(ratios.values())), **zoom)
    times = {arm: steps.mean() * ratios[arm] for arm, steps in steps_to_threshold(found).items()}
    first = min(times, key=lambda arm: np.nan_to_num(times[arm], nan=np.inf))
    plots.finding(axes[1, 1], f"first at {level:.3f} bits: {labels[first]}, in "
                  f"{times[first] / times['dense']:.2f} of dense's time")
    return figure


def _draw_speed(ax: plots.Axes, found: Results) -> None:
    """Draw examples per second of the wide models, in both layouts, beside the paper's."""
    series = {name: {arm: 1 / ratio
                     for arm, ratio in step_ratios(found.speed, "wide", layout).items()}
              for name, layout in zip(("fixed buffers", "packed"), LAYOUTS)}
    plots.series_by_arm(ax, series | {"the paper": PAPER_SPEED}, "examples per second, as a "
                        "multiple of dense's; d_model 128", EXPERIMENT.labels)
    slower = [claim for claim, holds in faster(found.speed, "wide").items() if not holds]
    plots.finding(ax, "fixed buffers: " + (
        "not faster is " + ", ".join(slower) if slower else
        "Switch is faster than MoE at each factor, and faster the smaller the factor"))


EXPERIMENT = Experiment("table1", tuple(
    Arm(name, config, label=label) for name, (label, config) in models(ModelConfig()).items()),
    summary, draw, speed=time_steps)
