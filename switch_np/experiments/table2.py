"""Table 2: float32, bfloat16 and selective precision: quality, stability, routes, bytes sent.

The paper, with 32 experts, early in training, negative log perplexity and examples per second:
float32 -1.718 (1160); bfloat16 -3.780 (1390), diverged; selective precision -1.716 (1390).

Here: the toy with 32 experts, 300 steps at the default rate, in the modes of
`training.selective` and two more: float16 throughout, and bfloat16 whose weights are bfloat16
between steps too, where the other modes (and the authors) let the optimizer update float32 weights.
A run diverged if its numbers stopped being finite, or if it ends above 7 bits per byte (8 is
knowing nothing). Runs of one seed whose initial embedding differs by a thousandth end up to 0.05
bits apart after 300 steps, in float32 as in the others: smaller differences mean nothing.

Bytes are counted, for an all-to-all that carries each Switch layer's buffers to the experts and
back, and their gradients likewise. Rounding is emulated, so there are no times.
"""

from typing import Any

import numpy as np

from switch_np import model, plots
from switch_np.experiments import toy
from switch_np.experiments.activation_sizes import switch_cache
from switch_np.experiments.experiment import (
    Arm, Claim, Experiment, advance, ahead, contrast, effects)
from switch_np.experiments.results import Results, Table, curve, mean_and_interval, select
from switch_np.model import Loss
from switch_np.operations import softmax, tree
from switch_np.operations.precision import round_in_place
from switch_np.training import objective, selective, trainer
from switch_np.training.train_config import TrainConfig
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

EARLY = 0.25                        # of the steps
EVALUATED = 8192                    # bytes of held-out text, at each point of the curves
ROUTED = 16                         # windows of it whose routes are compared with float64's
DIVERGED = 7.0                      # bits per byte
LABELS = {"float32": "float32", "bfloat16": "all bfloat16", "selective": "selective precision",
          "float16": "all float16", "weights": "all bfloat16, weights too"}
PAPER = {"float32": (-1.718, 1160), "bfloat16": (-3.780, 1390), "selective": (-1.716, 1390)}

CLAIMS = (
    Claim("selective", "Selective precision keeps float32's quality (within 0.05 bits)",
          "-1.716 against -1.718", ahead("selective", "float32", margin=0.05),
          "bits per byte ahead of float32", primary=True),
    Claim("bfloat16", "All in bfloat16 is worse than float32", "-3.780, diverged, against -1.718",
          ahead("float32", "bfloat16"), "bits per byte behind"),
    Claim("flips", "A bfloat16 router sends tokens elsewhere", "the reason that the paper gives",
          contrast({"bfloat16": 1, "selective": -1}, "router_flips"),
          "of the tokens more than in selective precision"))


def advance_weights_too(run: Run, corpus: Any, source: Run | None) -> tuple[Loss, float]:
    """Take a step, and round the weights that it leaves."""
    result = trainer.advance(run, corpus)
    tree.apply(lambda value: round_in_place(value, "bfloat16"), run.params)
    return result


def evaluate(run: Run, corpus: Corpus) -> dict[str, float]:
    """Return the bits per byte of held-out text, and how the routes differ from float64's."""
    text = corpus.held_out[:EVALUATED + 1]
    return {"bits_per_byte": trainer.evaluate(run, text), **against_float64(run, text)}


def against_float64(run: Run, text: np.ndarray) -> dict[str, float]:
    """Return how a run's routers decide, beside float64 with the same parameters and text.

    Returns
    -------
    dict
        Means over the layers. router_flips, flips: the fraction of tokens that go to another expert
        than if the router, given the same input, or the whole model were float64. ties: the
        fraction with two best experts, whose order then decides. gate_error: the median relative
        error of the gates of tokens that are routed alike. And the greatest router logit.
    """
    config = run.model_config
    ids = next(objective.held_out(text, ROUTED, run.config.seq_len)).inputs
    _, outputs, cache = model.forward(run.stored, ids, config)
    exact = tree.apply(lambda value: value.astype(np.float64), run.params)
    _, exact_outputs, _ = model.forward(exact, ids, config)
    found = []
    for layer, out, want in zip(config.switch_layers, outputs, exact_outputs):
        routed_TD = switch_cache(cache.runs["decoder"].stack.blocks[layer]).router.noisy_TD
        x_TD = np.array(routed_TD, np.float64)           # a plain array, which no longer rounds
        probs_TE, _ = softmax.forward(x_TD @ exact["decoder"][str(layer)]["switch"]["w_router"])
        expert_T = out.plan.expert[:, 0]
        same_T = expert_T == probs_TE.argmax(axis=1)
        gate_T = np.take_along_axis(probs_TE, out.plan.expert, axis=1)[same_T, 0]
        error_T = np.abs(np.array(out.gates)[same_T, 0] / gate_T - 1)
        top_T1 = out.probs.max(axis=1, keepdims=True)
        found.append({"router_flips": 1 - same_T.mean(),
                      "ties": ((out.probs == top_T1).sum(axis=1) > 1).mean(),
                      "gate_error": np.median(error_T) if len(error_T) else np.nan,
                      "flips": (expert_T != want.plan.expert[:, 0]).mean(),
                      "logit": np.abs(want.logits).max()})
    return {name: float((np.max if name == "logit" else np.mean)([each[name] for each in found]))
            for name in found[0]}


def bytes_per_step(config: ModelConfig, train: TrainConfig) -> int:
    """Return what all-to-alls carry in one step: buffers to the experts and back, and gradients.

    >>> config = ModelConfig()
    >>> [bytes_per_step(config, TrainConfig(dtype=mode)) for mode in ("float32", "selective")]
    [2621440, 1310720]
    """
    capacity = config.switch.expert_capacity(train.batch_size * train.seq_len, True)
    if capacity is None:
        raise ValueError("config must have a capacity factor in training, got None")
    numbers = config.switch.num_experts * capacity * config.d_model
    return 4 * len(config.switch_layers) * numbers * selective.width(train.dtype)


def megabytes(mode: str) -> float:
    """Return the million bytes that the all-to-alls of one step carry in a mode."""
    arm = next(arm for arm in EXPERIMENT.arms if arm.name == mode)
    return bytes_per_step(arm.model, arm.train) / 1e6


def at_ends(found: Results, mode: str) -> Table:
    """Return one mode's final numbers, {} if it was not run; `end` is NaN where a run diverged."""
    ends = select(found.rows, arm=mode)
    if not len(ends["seed"]):
        return {}
    steps, bits = curve(found.curves, mode, "bits_per_byte")
    diverged = ~(ends["bits_per_byte"] < DIVERGED)
    return {**ends, "early": bits[:, np.searchsorted(steps, EARLY * found.rows["steps"].max())],
            "end": np.where(diverged, np.nan, ends["bits_per_byte"]), "diverged": diverged}


def summary(found: Results) -> list[dict[str, str]]:
    """Return the numbers of each mode, beside the paper's."""
    return [{
        "precision": LABELS[mode],
        "bits per byte, early": mean_and_interval(ends["early"], 3),
        "at the end": mean_and_interval(ends["end"], 3),
        "neg. log perp.": mean_and_interval(-ends["end"] * np.log(2), 3),
        "diverged": f"{ends['diverged'].sum()} of {len(ends['diverged'])}",
        "router flips %": mean_and_interval(100 * ends["router_flips"], 2),
        "ties %": mean_and_interval(100 * ends["ties"], 2),
        "gate off by %": mean_and_interval(100 * ends["gate_error"], 3),
        "all flips %": mean_and_interval(100 * ends["flips"], 2),
        "all-to-all, MB per step": f"{megabytes(mode):.2f}",
        "paper: neg. log perp.": f"{PAPER[mode][0]:.3f}" if mode in PAPER else "",
        "examples/s": f"{PAPER[mode][1]}" if mode in PAPER else ""}
        for mode in LABELS if (ends := at_ends(found, mode))]


def draw(found: Results) -> plots.Figure:
    """Draw quality over steps and by seed, flipped routes, and bytes."""
    judged = effects(CLAIMS, found)
    ends = {mode: at_ends(found, mode) for mode in LABELS}
    figure, axes = plots.figure(2, 2, size=(13, 8.5))
    plots.curves_by_arm(axes[0, 0], found.curves, LABELS)
    plots.finding(axes[0, 0], f"selective precision against float32: {judged['selective']} "
                  "(0.05 behind is as good)")
    plots.seeds_by_arm(axes[0, 1], {mode: numbers["end"] for mode, numbers in ends.items()},
                       "held-out bits per byte at the end", labels=LABELS)
    plots.finding(axes[0, 1], f"float32 against all bfloat16: {judged['bfloat16']}")
    flips = {mode: 100 * numbers["router_flips"] for mode, numbers in ends.items()}
    plots.seeds_by_arm(axes[1, 0], flips, "tokens that the router sends to another expert than "
                       "float64 would, %", labels=LABELS)
    plots.finding(axes[1, 0], f"a bfloat16 router sends {flips['bfloat16'].mean():.1f} % of the "
                  f"tokens elsewhere, a float32 router in a bfloat16 model "
                  f"{flips['selective'].mean():.2f} %")
    plots.bars(axes[1, 1], {
        LABELS[mode] + (f"\n(paper: {PAPER[mode][1]} examples/s)" if mode in PAPER else ""):
        megabytes(mode) for mode in ("float32", "bfloat16", "selective", "float16")},
        "bytes that the all-to-alls of one training step carry, millions")
    plots.finding(axes[1, 1], "selective precision sends as few bytes as bfloat16: "
                  f"1/{megabytes('float32') / megabytes('selective'):g} of float32's")
    return figure


def _arm(mode: str) -> Arm:
    dtype, step = ("bfloat16", advance_weights_too) if mode == "weights" else (mode, advance)
    train = TrainConfig(steps=300, batch_size=16, warmup=20, dtype=dtype)
    return Arm(mode, toy.switch(num_experts=32), train, LABELS[mode], advance=step,
               evaluate=evaluate)


EXPERIMENT = Experiment("table2", tuple(_arm(mode) for mode in LABELS), summary, draw, CLAIMS,
                        kept=tuple(range(10)))
