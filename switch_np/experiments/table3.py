"""Table 3: a smaller initialization, √(0.1 / fan-in) in place of √(1.0 / fan-in).

The paper, 32 experts, 3,500 steps, 3 seeds: with scale 0.1 the negative log perplexity early in
training is -2.72 with standard deviation 0.01; with the usual 1.0 it is -3.60 with 0.68.

Here: 12 blocks, each other one with 32 experts, five seeds, 150 steps. Training goes by Adafactor
without clipping by a global norm, as in T5: a weight's update is in proportion to the weight's own
size, so that one rate means the same at each scale. How harmful a scale is depends on the rate, so
there are four, from one too low to one too high for both scales; each scale is also taken at its
own best. What is compared at one rate is compared at 0.15: in trials the highest that was not too
high for both. With AdamW, whose updates know nothing of the weights' size, and the toy's usual rate
there is one arm per scale.

The review of the paper has s/√n for √(s/n), with s from 10 to 1. Since s/√n = √(s²/n), these are
the scales 100 and 1: the review's small scale is the paper's large one. The scale 100 has arms of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from switch_np.experiments import activations, toy
from switch_np.experiments.activations import Activations
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.results import Results, by_arm, select
from switch_np.training import objective, trainer
from switch_np.training.adafactor import Adafactor
from switch_np.training.corpus import Corpus
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL, LARGE, REVIEW = SCALES = (0.1, 1.0, 100.0)
RATES = (0.03, 0.1, 0.15, 0.3)
REVIEW_RATES = (0.03, 0.15)
COMPARED = 0.15
PAPER = {SMALL: (-2.72, 0.01), LARGE: (-3.60, 0.68)}
COLORS = {SMALL: "#0072B2", LARGE: "#D55E00", REVIEW: "#009E73"}

MODEL = replace(toy.switch(num_experts=32), num_layers=12)
TRAIN = TrainConfig(steps=150, batch_size=8, warmup=10, learning_rate=COMPARED, max_norm=1e9,
                    optimizer=Adafactor(relative_step=False))
ADAMW = TrainConfig(steps=150, batch_size=8, warmup=10)


def config(scale: float) -> ModelConfig:
    """Return the model with weights of this scale."""
    return replace(MODEL, init_scale=scale)


def name_of(scale: float, rate: float) -> str:
    """Return the arm of this scale and rate.

    >>> name_of(0.1, 0.15)
    'scale-0.1-rate-0.15'
    """
    return f"scale-{scale:g}-rate-{rate:g}"


def conclude(run: Run, corpus: Corpus, source: Run | None) -> dict[str, float]:
    """Return the activations by depth."""
    seen = measure(run, corpus)
    found = {f"stream_{n}": value for n, value in enumerate(seen.stream)}
    found |= {f"experts_{n}": value for n, value in seen.experts.items()}
    return found | {f"added_{n}": value for n, value in seen.added.items()}


def measure(run: Run, corpus: Corpus) -> Activations:
    """Return a run's activations on the held-out text."""
    batch = next(objective.held_out(corpus.held_out, 64, run.config.seq_len))
    return activations.by_depth(run.params, batch.inputs, run.model_config)


def at_start(scale: float, seed: int = 0) -> Activations:
    """Return the activations before the first step."""
    corpus = toy.text()
    return measure(trainer.start(config(scale), replace(TRAIN, seed=seed), corpus), corpus)


def at_end(found: Results, scale: float, rate: float = COMPARED) -> Activations:
    """Return the activations after the last step, the mean of the seeds."""
    mine = select(found.rows, arm=name_of(scale, rate))

    def mean(part: str, n: int) -> float:
        return float(np.nanmean(mine[f"{part}_{n}"]))

    return Activations([mean("stream", n) for n in range(MODEL.num_layers + 1)],
                       *({n: mean(part, n) for n in MODEL.switch_layers}
                         for part in ("experts", "added")))


def by_scale(found: Results, scale: float) -> dict[float, np.ndarray]:
    """Return by learning rate (Adafactor's) the final bits per byte of the seeds."""
    bits = by_arm(found.rows, "bits_per_byte")
    return {rate: bits[name_of(scale, rate)] for rate in RATES if name_of(scale, rate) in bits}


def best_rate(found: Results, scale: float) -> float:
    """Return the rate with the best mean, among those at which no seed diverged."""
    means = {rate: values.mean() for rate, values in by_scale(found, scale).items()}
    return min(means, key=lambda rate: np.nan_to_num(means[rate], nan=np.inf))


def leads(found: Results, rate: float = COMPARED) -> dict[str, float]:
    """Return, in nats per byte, how far the small scale is ahead, and how far its seeds spread.

    `lead` and the two standard deviations at one rate; `lead_at_best`: each at its best rate.
    """
    nats = {scale: {at: values * np.log(2) for at, values in by_scale(found, scale).items()}
            for scale in (SMALL, LARGE)}
    best = {scale: nats[scale][best_rate(found, scale)].mean() for scale in nats}
    return {"lead": nats[LARGE][rate].mean() - nats[SMALL][rate].mean(),
            "std_small": spread(nats[SMALL][rate]), "std_large": spread(nats[LARGE][rate]),
            "lead_at_best": best[LARGE] - best[SMALL]}


def in_words(found: Results) -> list[str]:
    """Return what came of the paper's claims, sentences made from the numbers."""
    says, adamw = leads(found), {scale: by_arm(found.rows, "bits_per_byte")[
        f"scale-{scale:g}-adamw"].mean() * np.log(2) for scale in (SMALL, LARGE)}
    narrower = says["std_small"] < says["std_large"]
    review = min(values.mean() for values in by_scale(found, REVIEW).values()) * np.log(2)
    return [
        f"At rate {COMPARED} scale {SMALL:g} is {_ahead(says['lead'])} scale {LARGE:g}; the paper: "
        f"0.88 nats ahead.",
        f"Its seeds spread {'less' if narrower else 'no less'}: standard deviation "
        f"{says['std_small']:.2f} against {says['std_large']:.2f}; the paper: 0.01 against 0.68.",
        f"Each at its own best rate ({best_rate(found, SMALL):g} and {best_rate(found, LARGE):g}), "
        f"scale {SMALL:g} is {_ahead(says['lead_at_best'])} scale {LARGE:g}.",
        f"With AdamW scale {SMALL:g} is {_ahead(adamw[LARGE] - adamw[SMALL])} scale {LARGE:g}.",
        f"Scale {REVIEW:g}, the review's usual one, gets to {review:.2f} nats at best."]


def _ahead(lead: float) -> str:
    """Say a lead in nats.

    >>> _ahead(-0.04), _ahead(0.001)
    ('0.04 nats behind', 'level with')
    """
    if abs(lead) < 0.005:
        return "level with"
    return f"{abs(lead):.2f} nats {'ahead of' if lead > 0 else 'behind'}"


def spread(values: np.ndarray) -> float:
    """Return the standard deviation of the seeds, NaN of fewer than two.

    >>> spread(np.array([1.0, 2.0, 3.0]))
    1.0
    """
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def summary(found: Results) -> list[dict[str, str]]:
    """Return mean and standard deviation of quality by scale and rate, beside the paper's."""
    rows = []
    for arm, bits in by_arm(found.rows, "bits_per_byte").items():
        there = bits[np.isfinite(bits)]
        scale = next(one.model.init_scale for one in EXPERIMENT.arms if one.name == arm)
        mean, std = PAPER.get(scale, (None, None)) if arm.endswith(f"rate-{COMPARED}") else (
            None, None)
        rows.append({
            "initialization": EXPERIMENT.labels[arm], "seeds": str(len(bits)),
            "diverged": str(len(bits) - len(there)),
            "neg. log perp.\nmean": f"{-there.mean() * np.log(2):.3f}" if len(there) else "",
            "neg. log perp.\nstd": f"{spread(there) * np.log(2):.3f}" if len(there) > 1 else "",
            "paper's\nmean": "" if mean is None else f"{mean:.2f}",
            "paper's\nstd": "" if std is None else f"{std:.2f}"})
    return rows


def draw(found: Results) -> Figure:
    """Draw quality by seed and by rate, and the activations by depth before and after training."""
    from switch_np import plots

    made, axes = plots.figure(2, 2, size=(13.5, 9.5))
    draw_seeds(axes[0, 0], found)
    draw_rates(axes[0, 1], found)
    starts = {scale: at_start(scale) for scale in SCALES}
    draw_depth(axes[1, 0], starts)
    growths = ", ".join(f"{seen.stream[-1] / seen.stream[0]:.1f}" for seen in starts.values())
    axes[1, 0].set_title(f"before training: from the embedding to the last block the stream grows\n"
                         f"{growths} times (scales 0.1, 1, 100)", fontsize=10)
    draw_depth(axes[1, 1], {scale: at_end(found, scale) for scale in SCALES})
    axes[1, 1].set_title(f"after {found.rows['steps'].max():.0f} steps at rate {COMPARED}: the "
                         f"small scale is still the calm one" if _calm(found) else
                         f"after {found.rows['steps'].max():.0f} steps at rate {COMPARED}",
                         fontsize=10)
    low, high = zip(*(ax.get_ylim() for ax in axes[1]))
    for ax in axes[1]:
        ax.set_ylim(min(low), 5 * max(high))
    return made


def draw_seeds(ax: Axes, found: Results) -> Axes:
    """Draw a dot per seed at the rate that is compared and with AdamW, beside the paper's."""
    from switch_np import plots

    bits = by_arm(found.rows, "bits_per_byte")
    scale_of = {arm.name: arm.model.init_scale for arm in EXPERIMENT.arms}
    shown = {arm: values * np.log(2) for arm, values in bits.items()
             if arm.endswith((f"rate-{COMPARED}", "adamw"))}
    paper = {name_of(scale, COMPARED): f"{mean:.2f}, std {std:.2f}"
             for scale, (mean, std) in PAPER.items()}
    plots.seeds_by_arm(ax, shown, "held-out nats per byte (lower is better)", paper,
                       "the paper's neg. log perplexity", labels=EXPERIMENT.labels,
                       looks={arm: (COLORS[scale_of[arm]], "-") for arm in shown})
    says = leads(found)
    order = "ahead" if says["lead"] > 0 else "behind"
    spreads = "" if np.isnan(says["std_small"] + says["std_large"]) else (
        f"; std over the seeds:\n{says['std_small']:.2f} with scale {SMALL:g}, "
        f"{says['std_large']:.2f} with scale {LARGE:g}")
    ax.set_title(f"at rate {COMPARED} scale {SMALL:g} is {abs(says['lead']):.2f} nats {order}"
                 f"{spreads}", fontsize=10)
    return ax


def draw_rates(ax: Axes, found: Results) -> Axes:
    """Draw quality against the learning rate, a line per scale; what is far off is named."""
    from switch_np import plots

    series = {scale: {rate: values[np.isfinite(values)] * np.log(2)
                      for rate, values in by_scale(found, scale).items()
                      if np.isfinite(values).any()} for scale in SCALES}
    near = np.concatenate([values for scale in (SMALL, LARGE) for values in series[scale].values()])
    top = near.max() + 0.25 * np.ptp(near) + 0.05
    far = {rate: values for rate, values in series[REVIEW].items() if values.max() > top}
    series[REVIEW] = {rate: values for rate, values in series[REVIEW].items() if rate not in far}
    plots.ranges(ax, {f"scale {scale:g}": points for scale, points in series.items() if points},
                 "learning rate (Adafactor)", "held-out nats per byte (lower is better)",
                 {rate: f"{rate:g}" for rate in RATES})
    ax.set_ylim(near.min() - 0.05, top)
    if far:
        ax.annotate(f"scale {REVIEW:g} is beyond: " + ", ".join(
            f"{values.mean():.2f} at rate {rate:g}" for rate, values in far.items()),
            (0.02, 0.97), xycoords="axes fraction", fontsize=9, va="top", color=COLORS[REVIEW])
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.92))
    says = leads(found)["lead_at_best"]
    ax.set_title(f"each at its own best rate ({best_rate(found, SMALL):g}, "
                 f"{best_rate(found, LARGE):g}) scale {SMALL:g} is {abs(says):.2f} nats "
                 f"{'ahead' if says > 0 else 'behind'}", fontsize=10)
    return ax


def draw_depth(ax: Axes, seen: Mapping[float, Activations]) -> Axes:
    """Draw the residual stream by depth, and the experts' outputs, a colour per scale."""
    for scale, found in seen.items():
        ax.plot(np.arange(len(found.stream)), found.stream, "o-", color=COLORS[scale])
        ax.plot(np.array(list(found.experts)) + 1, list(found.experts.values()), "s:",
                color=COLORS[scale], markerfacecolor="white")
        ax.annotate(f"scale {scale:g}", (len(found.stream) - 1, found.stream[-1]), xytext=(8, 0),
                    textcoords="offset points", va="center", fontsize=9, color=COLORS[scale])
    ax.plot([], [], "o-", color="#555555", label="residual stream")
    ax.plot([], [], "s:", color="#555555", markerfacecolor="white", label="experts' outputs")
    last = max(len(found.stream) for found in seen.values()) - 1
    ax.set(yscale="log", xlabel="after block (0: the embedding, before the first)",
           ylabel="root mean square", xlim=(-0.5, 1.2 * last), xticks=range(0, last + 1, 2))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="upper left")
    return ax


def _calm(found: Results) -> bool:
    """Whether at the end the small scale has the smallest stream after every block."""
    small, *others = (np.array(at_end(found, scale).stream) for scale in SCALES)
    return bool(np.all([small < other for other in others]))


def _arms() -> tuple[Arm, ...]:
    def arm(scale: float, train: TrainConfig, name: str, label: str) -> Arm:
        return Arm(name, config(scale), train, f"scale {scale:g}, {label}",
                   conclude=conclude, corpus=toy.text)

    pairs = [(scale, rate) for scale in (SMALL, LARGE) for rate in RATES]
    pairs += [(REVIEW, rate) for rate in REVIEW_RATES]
    made = [arm(scale, replace(TRAIN, learning_rate=rate), name_of(scale, rate), f"rate {rate:g}")
            for scale, rate in pairs]
    return (*made, *(arm(scale, ADAMW, f"scale-{scale:g}-adamw", "AdamW")
                     for scale in (SMALL, LARGE)))


EXPERIMENT = Experiment("table3", _arms(), summary, draw, seeds=(0, 1, 2, 3, 4))
