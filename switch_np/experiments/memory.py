"""Memory: a task on which nothing but the number of parameters counts.

The paper's findings about experts are about models that are short of parameters and of nothing
else. A toy on text is short of much else: text, steps, depth. Here the task is to learn a table by
heart: 128 × 128 pairs (a, b), each with an answer among 256, drawn at random. There is no rule to
find, no order to attend to, and nothing held out: what is measured is how much has been stored,
in nats per answer, over all 16,384 facts (5.55 if nothing is). It is synthetic, and says nothing
about text; it shows what a text of this size hides.

The arms: 1 (dense) to 64 experts; MoE top-2 and Switch at three capacity factors; and two schedules
of equal processor time: dense for as long as 64 experts take, and MoE for as long as Switch. Each
arm has the rate that was best for it in `memory-rates`, on other seeds.
"""

import time
from dataclasses import replace

import numpy as np

from switch_np import plots
from switch_np.experiments import memory_network, results, toy
from switch_np.experiments.experiment import (
    Arm, Claim, Experiment, ahead, contrast, effects, steps_saved, trend)
from switch_np.experiments.results import Results, by_arm, curve, intervals, steps_to
from switch_np.model import Loss
from switch_np.training import trainer
from switch_np.training.corpus import Corpus
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

SIZE = 128                            # each of a and b
AT_ONCE = 2048                        # facts, in a step and in the measuring
EXPERTS = (1, 2, 4, 8, 16, 32, 64)
FACTORS = (2.0, 1.25, 1.0)
PAPER = {"experts-64": "0.13"}        # of dense's steps: 60,000 of 450,000

TOY = ModelConfig(num_layers=1, switch_every=1, num_heads=1, d_kv=1, tie_embeddings="inputs")
TRAIN = TrainConfig(steps=1000, batch_size=AT_ONCE, seq_len=1)

MODELS: dict[str, tuple[str, ModelConfig]] = {
    "experts-1": ("dense", toy.dense(TOY)),
    **{f"experts-{count}": (f"{count} experts", toy.switch(TOY, num_experts=count))
       for count in EXPERTS[1:]},
    **{f"switch-{factor}": (f"16 experts, factor {factor}", toy.switch(TOY, capacity_factor=factor))
       for factor in FACTORS if factor != 1.25},
    **{f"moe-{factor}": (f"MoE top-2, factor {factor}",
                         toy.switch(TOY, top_k=2, capacity_factor=factor)) for factor in FACTORS}}
# The best of `memory-rates`.
BEST = dict.fromkeys(MODELS, 0.1) | {"experts-64": 0.01}
# By arm of equal time: its model, and the steps that take as long as 1,000 of the other.
EQUAL_TIME = {"dense-time": ("experts-1", 1840), "moe-time": ("moe-2.0", 833)}


def table() -> Corpus:
    """Return the answers, by 128 a + b; the text to train on is the text to be measured on."""
    answers = np.random.default_rng(0).integers(0, 256, SIZE * SIZE).astype(np.uint8)
    return Corpus(answers, answers)


def pairs_of(facts: np.ndarray) -> np.ndarray:
    """Return the ids (T, 2) of a and b; those of b follow those of a."""
    return np.stack([facts // SIZE, SIZE + facts % SIZE], axis=1)


def advance(run: Run, corpus: Corpus, source: Run | None) -> tuple[Loss, float]:
    """Take a step on facts drawn at random."""
    begin = time.perf_counter()
    facts = run.text_rng.integers(0, len(corpus.train), run.config.batch_size)
    return trainer.update(run, begin, lambda params: memory_network.loss_and_grads(
        params, pairs_of(facts), corpus.train[facts].astype(np.int64), run.model_config,
        run.noise_rng, training=True))


def recall(run: Run, corpus: Corpus) -> dict[str, float]:
    """Return the nats per answer over all facts, in an order as mixed as in training.

    In the table's order the facts of a batch would share a few a, and crowd a few experts.
    """
    mixed = np.random.default_rng(1).permutation(len(corpus.train)).reshape(-1, AT_ONCE)
    nats = [memory_network.loss_and_grads(
        run.params, pairs_of(facts), corpus.train[facts].astype(np.int64), run.model_config
        )[0].cross_entropy for facts in mixed]
    return {"nats": float(np.mean(nats))}


CLAIMS = (
    Claim("equal time", "64 experts beat dense at equal time, on facts", "64 experts reach "
          "T5-Base's quality in 1/7 of the time", ahead("experts-64", "dense-time", "nats"),
          "nats ahead", primary=True),
    Claim("equal steps", "64 experts beat dense at equal steps, on facts", "the loss falls "
          "steadily to 256 experts", ahead("experts-64", "experts-1", "nats"), "nats ahead"),
    Claim("doubling", "Each doubling of the experts helps, on facts", "the same",
          trend([f"experts-{count}" for count in EXPERTS], "nats"), "nats per doubling"),
    Claim("last doubling", "64 experts beat 32, on facts", "the same",
          ahead("experts-64", "experts-32", "nats"), "nats ahead"),
    Claim("steps saved", "64 experts need a fraction of dense's steps, on facts",
          "they save 87 % of the steps", steps_saved("experts-64", "experts-1", "nats"),
          "of dense's steps saved"),
    Claim("moe", "Switch beats MoE top-2 at equal time, on facts", "62.8 h against 68.7 h to -1.50",
          ahead("switch-2.0", "moe-time", "nats"), "nats ahead"),
    Claim("factors", "Switch bears small capacity factors better, on facts",
          "from 2.0 to 1.0 Switch loses 0.007, MoE 0.025",
          contrast({"moe-1.0": 1, "moe-2.0": -1, "switch-1.0": -1, "switch-2.0": 1}, "nats"),
          "nats less lost"))


def summary(found: Results) -> list[dict[str, str]]:
    """Return each arm's size, rate, nats, drops, and steps to dense's quality."""
    dense = by_arm(found.rows, "nats")["experts-1"]
    reached = {arm: np.array([steps_to(steps, mine, level) for mine, level in zip(seeds, dense)])
               for arm in by_arm(found.rows, "seed")
               for steps, seeds in [curve(found.curves, arm, "nats")]}
    return results.words(by_arm(found.rows, "seed"), {
        "model": EXPERIMENT.labels,
        "rate": {arm.name: f"{arm.train.learning_rate:g}" for arm in EXPERIMENT.arms},
        "steps": {arm.name: f"{arm.train.steps}" for arm in EXPERIMENT.arms},
        "parameters": {arm: f"{count[0]:,.0f}"
                       for arm, count in by_arm(found.rows, "params").items()},
        "nats per\nanswer": intervals(by_arm(found.rows, "nats"), 3),
        "dropped\n%": intervals(by_arm(found.rows, "dropped"), 1, 100),
        "steps to dense's\nquality": intervals(reached, 0)})


def draw(found: Results) -> plots.Figure:
    """Draw what is stored by arm, by number of experts, and over the steps."""
    judged = effects(CLAIMS, found)
    nats = by_arm(found.rows, "nats")
    figure, axes = plots.figure(2, 2, size=(13, 9))
    ax = plots.ranges(axes[0, 0], {"16,384 facts": {
        count: nats[f"experts-{count}"] for count in EXPERTS}}, "experts",
        "nats per answer (lower is better)", {count: f"{count}" for count in EXPERTS})
    plots.finding(ax, f"equal steps: {judged['doubling'].mean:.2f} nats per doubling")
    names = {f"experts-{count}": EXPERIMENT.labels[f"experts-{count}"] for count in EXPERTS}
    plots.curves_by_arm(axes[0, 1], found.curves, names, "nats", "nats per answer", ylim=(0, None),
                        looks={f"experts-{count}": (shade, "-")
                               for count, shade in zip(EXPERTS, plots.shades(len(EXPERTS)))})
    axes[0, 1].legend(fontsize=8, loc="upper right")
    plots.finding(axes[0, 1], f"64 experts save {100 * judged['steps saved'].mean:.0f} % of the "
                  "steps that dense takes to its end")
    _draw_arms(axes[1, 0], found, ("experts-64", "dense-time", "switch-2.0", "moe-time"))
    plots.finding(axes[1, 0], f"equal time: 64 experts {judged['equal time']} against dense; "
                  f"Switch {judged['moe']} against MoE")
    _draw_arms(axes[1, 1], found, ("switch-2.0", "experts-16", "switch-1.0", "moe-2.0", "moe-1.25",
                                   "moe-1.0"))
    plots.finding(axes[1, 1], f"from factor 2.0 to 1.0 Switch loses less by "
                  f"{judged['factors']}")
    return figure


def _draw_arms(ax: plots.Axes, found: Results, arms: tuple[str, ...]) -> None:
    nats = by_arm(found.rows, "nats")
    plots.seeds_by_arm(ax, {arm: nats[arm] for arm in arms}, "nats per answer (lower is better)",
                       labels=EXPERIMENT.labels)


def arm(name: str, model: str, rate: float, steps: int = TRAIN.steps, label: str = "") -> Arm:
    """Return an arm that trains one of MODELS."""
    train = replace(TRAIN, learning_rate=rate, steps=steps)
    return Arm(name, MODELS[model][1], train, label or MODELS[model][0], advance=advance,
               evaluate=recall, corpus=table)


EXPERIMENT = Experiment("memory", (
    *(arm(name, name, BEST[name]) for name in MODELS),
    *(arm(name, model, BEST[model], steps, f"{MODELS[model][0]}, {steps} steps")
      for name, (model, steps) in EQUAL_TIME.items())),
    summary, draw, CLAIMS, kept=tuple(range(10)))
