"""Table 1: Switch, the mixture of two experts per token (MoE top-2), and dense, at equal steps.

The paper, after 100,000 steps with 128 experts: Switch beats MoE and dense models in quality for
time. It bears small capacity factors better than MoE, is faster per step at the same factor, and
faster still at a smaller one. A model widened by the memory that this saves (Switch-Base+) is best.

Here: the toy (16 experts) as dense, MoE and Switch at three capacity factors, Switch without its
balance loss, and Switch+: factor 1.0, widened until a step costs as many operations as that of MoE
at 2.0, the factor at which its second choices fit. In T5-Large's place is a dense model of 3.4
times the operations, which can afford a third of the steps. As in the paper the capacity is not
multiplied by k, so MoE at factor 1.0 drops at least half of its choices; all are evaluated at
factor 2.0. Each kind of model has its best rate (`rates`).

Equal time: schedules of other lengths, which take as long as Switch at 1.25 takes for 1,200 steps
in the packed layout (processor time of a step over dense's, median of 60 turns: Switch 1.19, MoE at
2.0 1.31, large 3.46).

Speed is measured in the paper's fixed buffers, whose empty slots are computed too, and in the
packed layout, whose cost follows the kept tokens: at the toy's width with the trained models, and
at a width at which matrix products dominate with models at initialization (whose loads are more
even than early in training).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np import plots
from switch_np.experiments import rates, results, speed, toy
from switch_np.experiments.experiment import Arm, Claim, Experiment, ahead, contrast, effects
from switch_np.experiments.results import Results, Table, by_arm, intervals, select
from switch_np.experiments.speed import LAYOUTS
from switch_np.experiments.statistics import Effect
from switch_np.training import corpus as corpora, trainer
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

FACTORS = (2.0, 1.25, 1.0)

# Negative log perplexity, hours to -1.50, examples per second.
PAPER = {"dense": (-1.731, None, 1600), "large-time": (-1.550, 131.1, 470),
         "moe-2.0": (-1.547, 68.7, 840), "switch-2.0": (-1.554, 72.8, 860),
         "moe-1.25": (-1.559, 80.7, 790), "switch-1.25": (-1.553, 65.0, 910),
         "moe-1.0": (-1.572, 80.1, 860), "switch-1.0": (-1.561, 62.8, 1000),
         "switch-plus": (-1.534, 67.6, 780)}
PAPER_SPEED = {arm: examples / PAPER["dense"][2] for arm, (_, _, examples) in PAPER.items()}

# Wide enough that a step's time is that of its products: 16 times the toy's work.
WIDE = toy.switch(replace(ModelConfig(), d_model=128, d_ff=512, num_heads=4, d_kv=32),
                  num_experts=8)


# By arm of equal time: its model, and the steps that take as long as 1,200 of Switch at 1.25.
EQUAL_TIME = {"dense-time": ("dense", toy.dense(), 1423),
              "large-time": ("dense, large", toy.large(), 411),
              "moe-time": ("MoE top-2, 2.0", toy.switch(top_k=2, capacity_factor=2.0), 1089)}


def models(base: ModelConfig) -> dict[str, tuple[str, ModelConfig]]:
    """Return the label and the config of each model that is timed, around one Switch model."""
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
    ready = {arm: runs[arm] for arm in wide}
    return [{"size": size, **row}
            for size, timed, turns in (("toy", ready, 2 * rounds), ("wide", wide, rounds))
            for row in speed.of_layouts(timed, "dense", turns)]


def step_ratios(timings: Table, size: str, layout: str) -> dict[str, float]:
    """Return each arm's time per step, as a multiple of dense's, in one layout; {} if untimed."""
    return speed.ratios(select(timings, size=size), layout)


def faster(slow: str, fast: str, layout: str) -> Callable[[Results], Effect]:
    """Return how much longer a step of one arm takes than another's, at the wide size."""
    return lambda found: speed.gap(select(found.speed, size="wide"), slow, fast, layout)


CLAIMS = (
    Claim("dense", "Switch beats dense at equal steps", "-1.553 against -1.731",
          ahead("switch-1.25", "dense"), "bits per byte ahead", primary=True),
    Claim("dense in time", "Switch beats dense at equal time", "T5-Base never gets to -1.50",
          ahead("switch-1.25", "dense-time"), "bits per byte ahead"),
    Claim("large in time", "Switch beats a larger dense model at equal time",
          "65.0 h against 131.1 h to -1.50", ahead("switch-1.25", "large-time"),
          "bits per byte ahead"),
    Claim("moe in time", "Switch beats MoE top-2 at equal time", "65.0 h against 68.7 h to -1.50",
          ahead("switch-1.25", "moe-time"), "bits per byte ahead"),
    Claim("factors", "Switch bears small capacity factors better",
          "from 2.0 to 1.0 Switch loses 0.007, MoE 0.025",
          contrast({"moe-1.0": 1, "moe-2.0": -1, "switch-1.0": -1, "switch-2.0": 1}),
          "bits per byte less lost"),
    Claim("plus", "Switch+, as costly as MoE, is better than MoE", "-1.534 against -1.547",
          ahead("switch-plus", "moe-2.0"), "bits per byte ahead"),
    Claim("balance", "The balance loss is worth having", "section 2.2; not measured",
          ahead("switch-1.25", "unbalanced"), "bits per byte ahead"),
    Claim("speed in buffers", "A step of Switch is faster than one of MoE, in fixed buffers",
          "910 against 790 examples/s at factor 1.25",
          faster("moe-1.25", "switch-1.25", "buffers"), "of dense's step saved"),
    Claim("speed packed", "A step of Switch is faster than one of MoE, packed", "the same",
          faster("moe-1.25", "switch-1.25", "packed"), "of dense's step saved"),
    Claim("speed of factors", "A smaller factor makes a step of Switch faster, in fixed buffers",
          "1000 against 860 examples/s, factors 1.0 and 2.0",
          faster("switch-2.0", "switch-1.0", "buffers"), "of dense's step saved"))


def summary(found: Results) -> list[dict[str, str]]:
    """Return each arm's quality and speed, beside the paper's."""
    bits = by_arm(found.rows, "bits_per_byte")
    ratios = {(size, layout): step_ratios(found.speed, size, layout)
              for size in ("toy", "wide") for layout in LAYOUTS if found.speed}
    return results.words(bits, {
        "model": EXPERIMENT.labels,
        "rate": {arm.name: f"{arm.train.learning_rate:g}" for arm in EXPERIMENT.arms},
        "bits\nper byte": intervals(bits, 3),
        "neg. log\nperplexity": intervals(bits, 3, -np.log(2)),
        "dropped\n%": intervals(by_arm(found.rows, "dropped"), 1, 100),
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
    """Return colour and dashes per arm: a colour per kind, dashes per factor or schedule."""
    found = {"dense": ("#000000", "-"), "dense-time": ("#000000", "--"),
             "large-time": ("#999999", "--"), "switch-plus": ("#009E73", "-"),
             "moe-time": ("#CC79A7", "-"), "unbalanced": ("#56B4E9", "-")}
    for factor, dashes in zip(FACTORS, ("-", "--", ":")):
        found |= {f"moe-{factor}": ("#D55E00", dashes), f"switch-{factor}": ("#0072B2", dashes)}
    return found


def draw(found: Results) -> plots.Figure:
    """Draw quality and speed by arm, and the held-out loss against steps and against time."""
    judged = effects(CLAIMS, found)
    labels, bits = EXPERIMENT.labels, by_arm(found.rows, "bits_per_byte")
    figure, axes = plots.figure(2, 2, size=(14, 10))
    plots.seeds_by_arm(axes[0, 0], bits, "held-out bits per byte (lower is better)",
                       {arm: f"{PAPER[arm][0]:.3f}" for arm in bits if arm in PAPER},
                       "the paper: neg. log perplexity (higher is better)", labels=labels,
                       looks=looks())
    ends = found.rows["bits_per_byte"]
    zoom: dict[str, Any] = dict(ylim=(np.nanmin(ends) - 0.02, np.nanmin(ends) + 0.4), looks=looks())
    equal = {arm: labels[arm] for arm in ("dense", "moe-2.0", "switch-1.25")}
    plots.curves_by_arm(axes[1, 0], found.curves, equal, **zoom)
    plots.finding(axes[1, 0], f"equal steps: Switch against dense {judged['dense']}")
    if not found.speed:
        plots.finding(axes[0, 1], "speed was not measured")
        return figure
    _draw_speed(axes[0, 1], found)
    timed = {arm: labels[arm] for arm in ("dense-time", "large-time", "moe-time", "switch-1.25")}
    plots.curves_by_arm(axes[1, 1], found.curves, timed, x_scale={
        arm: 1200 / EQUAL_TIME[arm][2] if arm in EQUAL_TIME else 1.0 for arm in timed},
        xlabel="time, in steps of Switch at 1.25 (packed)", **zoom)
    plots.finding(axes[1, 1], f"equal time: Switch against dense {judged['dense in time']}, "
                  f"against MoE {judged['moe in time']}")
    return figure


def _draw_speed(ax: plots.Axes, found: Results) -> None:
    """Draw examples per second of the wide models, in both layouts, beside the paper's."""
    judged = effects(CLAIMS, found)
    labels = {arm: label for arm, (label, _) in MODELS.items()}
    series = {name: {arm: 1 / ratios[arm] for arm in labels}
              for name, layout in zip(("fixed buffers", "packed"), LAYOUTS)
              for ratios in [step_ratios(found.speed, "wide", layout)]}
    paper = {arm: PAPER_SPEED[arm] for arm in labels}
    plots.series_by_arm(ax, series | {"the paper": paper}, "examples per second, as a "
                        "multiple of dense's; d_model 128", labels)
    plots.finding(ax, "a step of Switch at 1.25 saves, against MoE, "
                  f"{judged['speed in buffers']} in fixed buffers; packed {judged['speed packed']}")


def _model_of(name: str) -> str:
    """Return the model of `rates` that stands for an arm's."""
    kind, _, rest = name.partition("-")
    return "plus" if rest == "plus" else kind


MODELS = models(ModelConfig())
EXPERIMENT = Experiment("table1", (
    *(Arm(name, config, rates.tuned(_model_of(name)), label)
      for name, (label, config) in MODELS.items()),
    Arm("unbalanced", replace(ModelConfig(), balance_coef=0.0), rates.tuned("switch"),
        "Switch, no balance loss"),
    *(Arm(name, config, rates.tuned(_model_of(name), steps), f"{label}, {steps} steps")
      for name, (label, config, steps) in EQUAL_TIME.items())),
    summary, draw, CLAIMS, speed=time_steps)
