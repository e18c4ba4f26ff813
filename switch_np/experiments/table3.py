"""Table 3: a smaller initialization, √(0.1 / fan-in) in place of √(1.0 / fan-in).

The paper, 32 experts, 3,500 steps, 3 seeds: with scale 0.1 the negative log perplexity early in
training is -2.72 with standard deviation 0.01; with the usual 1.0 it is -3.60 with 0.68.

Here: 12 blocks, every other one with 32 experts, 150 steps of Adafactor without
clipping by a global norm, as in T5: it updates a weight in proportion to the weight's size, so one
rate means the same at each scale. There are four rates, from too low to too high for both scales;
comparisons at one rate are at 0.15, in trials the highest that was not too high for both, and each
scale is also taken at its best. AdamW, whose updates do not depend on the weights' size, has one
arm per scale at its usual rate.

The review of the paper has s/√n for √(s/n), with s from 10 to 1. Since s/√n = √(s²/n), these are
the scales 100 and 1: the review's small scale is the paper's large one. Scale 100 has its own arms.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from switch_np import plots
from switch_np.experiments import activation_sizes, results, statistics, toy
from switch_np.experiments.activation_sizes import ActivationSizes
from switch_np.experiments.experiment import Arm, Claim, Experiment, contrast, effects
from switch_np.experiments.results import Results, by_arm, select
from switch_np.experiments.statistics import Effect
from switch_np.training import objective, trainer
from switch_np.training.adafactor import Adafactor
from switch_np.training.train_config import TrainConfig
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

SMALL, LARGE, REVIEW = SCALES = (0.1, 1.0, 100.0)
RATES = (0.03, 0.1, 0.15, 0.3)
COMPARED = 0.15
PAPER = {SMALL: (-2.72, 0.01), LARGE: (-3.60, 0.68)}        # mean, standard deviation
COLORS = {SMALL: "#0072B2", LARGE: "#D55E00", REVIEW: "#009E73"}

MODEL = replace(toy.switch(num_experts=32), num_layers=12)
ADAMW = TrainConfig(steps=150, batch_size=8, warmup=10)
TRAIN = replace(ADAMW, max_norm=1e9, optimizer=Adafactor(relative_step=False))


def config(scale: float) -> ModelConfig:
    """Return the model with this scale."""
    return replace(MODEL, init_scale=scale)


def name_of(scale: float, rate: float | None) -> str:
    """Return the arm of this scale and rate of Adafactor, or with AdamW."""
    return f"scale-{scale:g}-" + ("adamw" if rate is None else f"rate-{rate:g}")


def measure(run: Run, corpus: Corpus) -> ActivationSizes:
    """Return the sizes of a run's activations on the held-out text."""
    batch = next(objective.held_out(corpus.held_out, 64, run.config.seq_len))
    return activation_sizes.by_depth(run.params, batch.inputs, run.model_config)


def conclude(run: Run, corpus: Corpus) -> dict[str, float]:
    """Return these sizes by column: stream_0, stream_1 ..., experts_1, added_1 ..."""
    stream, experts, added = measure(run, corpus)
    named = {"stream": dict(enumerate(stream)), "experts": experts, "added": added}
    return {f"{what}_{n}": value for what, sizes in named.items() for n, value in sizes.items()}


def at_end(found: Results, scale: float) -> ActivationSizes:
    """Return the sizes after the last step at the compared rate, means over the seeds."""
    runs = select(found.rows, arm=name_of(scale, COMPARED))
    stream, experts, added = ({int(name.split("_")[1]): float(np.nanmean(values))
                               for name, values in runs.items() if name.startswith(f"{what}_")}
                              for what in ActivationSizes._fields)
    return ActivationSizes([*stream.values()], experts, added)


def nats_by_arm(found: Results) -> dict[str, np.ndarray]:
    """Return each arm's final nats per byte, one per seed."""
    return {arm: bits * np.log(2) for arm, bits in by_arm(found.rows, "bits_per_byte").items()}


def by_scale(found: Results, scale: float) -> dict[float, np.ndarray]:
    """Return the final bits per byte of the seeds, by learning rate (Adafactor's)."""
    bits = by_arm(found.rows, "bits_per_byte")
    return {rate: bits[arm] for rate in RATES if (arm := name_of(scale, rate)) in bits}


def _std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def steadier(found: Results) -> Effect:
    """Return how much farther from their mean the large scale's seeds end than the small one's."""
    small, large = (np.abs(nats - nats.mean()) for nats in (
        nats_by_arm(found)[name_of(scale, COMPARED)] for scale in (SMALL, LARGE)))
    return statistics.measure(large - small)


def _lead(first: str, second: str) -> Callable[[Results], Effect]:
    return contrast({second: np.log(2), first: -np.log(2)})


CLAIMS = (
    Claim("scale", "A smaller initialization trains better", "-2.72 against -3.60",
          _lead(name_of(SMALL, COMPARED), name_of(LARGE, COMPARED)), "nats per byte ahead",
          primary=True),
    Claim("steadier", "A smaller initialization trains more steadily",
          "standard deviation 0.01 against 0.68", steadier, "nats nearer to the mean"),
    Claim("adamw", "The same with AdamW", "the paper has Adafactor",
          _lead(name_of(SMALL, None), name_of(LARGE, None)), "nats per byte ahead"),
    Claim("review", "The review's s/√n with s = 10 is another scale, and worse",
          "√(s/n), s from 1.0 to 0.1", _lead(name_of(LARGE, COMPARED), name_of(REVIEW, COMPARED)),
          "nats per byte ahead"))


def summary(found: Results) -> list[dict[str, str]]:
    """Return mean and standard deviation of quality by scale and rate, beside the paper's."""
    paper = {name_of(scale, COMPARED): numbers for scale, numbers in PAPER.items()}
    nats = nats_by_arm(found)
    finite = {arm: each[np.isfinite(each)] for arm, each in nats.items()}
    return results.words(nats, {
        "initialization": EXPERIMENT.labels,
        "seeds": {arm: str(len(each)) for arm, each in nats.items()},
        "diverged": {arm: str(len(nats[arm]) - len(each)) for arm, each in finite.items()},
        "neg. log perp.\nmean": {arm: f"{-each.mean():.3f}" for arm, each in finite.items()
                                 if len(each)},
        "neg. log perp.\nstd": {arm: f"{_std(each):.3f}" for arm, each in finite.items()
                                if len(each) > 1},
        "paper's\nmean": {arm: f"{mean:.2f}" for arm, (mean, _) in paper.items()},
        "paper's\nstd": {arm: f"{std:.2f}" for arm, (_, std) in paper.items()}})


def draw(found: Results) -> plots.Figure:
    """Draw quality by seed and by rate, and the activations by depth before and after training."""
    figure, axes = plots.figure(2, 2, size=(13.5, 9.5))
    draw_seeds(axes[0, 0], found)
    draw_rates(axes[0, 1], found)
    corpus = toy.text()
    starts = {scale: measure(trainer.start(config(scale), TRAIN, corpus), corpus)
              for scale in SCALES}
    ends = {scale: at_end(found, scale) for scale in SCALES}
    growth = ", ".join(f"{stream[-1] / stream[0]:.1f}" for stream, _, _ in starts.values())
    plots.finding(draw_depth(axes[1, 0], starts), f"before training: from the embedding to the "
                  f"last block the stream grows {growth} times (scales 0.1, 1, 100)")
    small, large, review = (sizes.stream for sizes in ends.values())
    calm = bool(np.all(small < np.minimum(large, review)))
    plots.finding(draw_depth(axes[1, 1], ends), f"after {found.rows['steps'].max():.0f} steps at "
                  f"rate {COMPARED}" + ": the small scale is still the calm one" * calm)
    low, high = zip(*(ax.get_ylim() for ax in axes[1]))
    for ax in axes[1]:
        ax.set_ylim(min(low), 5 * max(high))
    return figure


def draw_seeds(ax: plots.Axes, found: Results) -> plots.Axes:
    """Draw a dot per seed at the compared rate and with AdamW, beside the paper's."""
    judged = effects(CLAIMS, found)
    nats = {arm: seeds for arm, seeds in nats_by_arm(found).items()
            if arm.endswith((f"rate-{COMPARED}", "adamw"))}
    plots.seeds_by_arm(
        ax, nats, "held-out nats per byte (lower is better)",
        {name_of(scale, COMPARED): f"{mean:.2f}, std {std:.2f}"
         for scale, (mean, std) in PAPER.items()},
        "the paper's neg. log perplexity", labels=EXPERIMENT.labels,
        looks={arm.name: (COLORS[arm.model.init_scale], "-") for arm in EXPERIMENT.arms})
    return plots.finding(ax, f"at rate {COMPARED} scale {SMALL:g} against {LARGE:g}: "
                         f"{judged['scale']}")


def draw_rates(ax: plots.Axes, found: Results) -> plots.Axes:
    """Draw quality against the learning rate, a line per scale; the review's is told in words."""
    judged = effects(CLAIMS, found)
    series = {scale: {rate: bits[np.isfinite(bits)] * np.log(2)
                      for rate, bits in by_scale(found, scale).items() if np.isfinite(bits).any()}
              for scale in SCALES}
    near = np.concatenate([nats for scale in (SMALL, LARGE) for nats in series[scale].values()])
    plots.ranges(ax, {f"scale {scale:g}": series[scale] for scale in (SMALL, LARGE)
                      if series[scale]},
                 "learning rate (Adafactor)", "held-out nats per byte (lower is better)",
                 {rate: f"{rate:g}" for rate in RATES})
    ax.set_ylim(near.min() - 0.05, near.max() + 0.25 * np.ptp(near) + 0.05)
    worst = min(float(nats.mean()) for nats in series[REVIEW].values())
    ax.annotate(f"scale {REVIEW:g}, the review's usual one: {worst:.2f} at best", (0.02, 0.97),
                xycoords="axes fraction", fontsize=9, va="top", color=COLORS[REVIEW])
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.92))
    return plots.finding(ax, f"with AdamW scale {SMALL:g} against {LARGE:g}: "
                         f"{judged['adamw']}", 60)


def draw_depth(ax: plots.Axes, by_scale: Mapping[float, ActivationSizes]) -> plots.Axes:
    """Draw the residual stream by depth, and the experts' outputs, a colour per scale."""
    for scale, (stream, experts, _) in by_scale.items():
        ax.plot(np.arange(len(stream)), stream, "o-", color=COLORS[scale])
        ax.plot(np.add([*experts], 1), [*experts.values()], "s:", color=COLORS[scale], mfc="white")
        ax.annotate(f"scale {scale:g}", (len(stream) - 1, stream[-1]), xytext=(8, 0),
                    textcoords="offset points", va="center", fontsize=9, color=COLORS[scale])
    ax.plot([], [], "o-", color="#555555", label="residual stream")
    ax.plot([], [], "s:", color="#555555", markerfacecolor="white", label="experts' outputs")
    last = max(len(sizes.stream) for sizes in by_scale.values()) - 1
    ax.set(yscale="log", xlabel="after block (0: the embedding, before the first)",
           ylabel="root mean square", xlim=(-0.5, 1.2 * last), xticks=range(0, last + 1, 2))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="upper left")
    return ax


def _arm(scale: float, rate: float | None) -> Arm:
    train = ADAMW if rate is None else replace(TRAIN, learning_rate=rate)
    label = f"scale {scale:g}, " + ("AdamW" if rate is None else f"rate {rate:g}")
    return Arm(name_of(scale, rate), config(scale), train, label, conclude=conclude,
               corpus=toy.text)


EXPERIMENT = Experiment("table3", (
    *(_arm(scale, rate) for scale in (SMALL, LARGE) for rate in RATES), _arm(REVIEW, 0.03),
    _arm(REVIEW, COMPARED), _arm(SMALL, None), _arm(LARGE, None)),
    summary, draw, CLAIMS, kept=tuple(range(10)))
