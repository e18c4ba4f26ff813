"""Table 2: float32, bfloat16 and selective precision: quality, stability, routes, bytes sent.

The paper, with 32 experts, early in training, negative log perplexity and examples per second:
float32 -1.718 (1160), bfloat16 -3.780 (1390), having diverged, selective precision -1.716 (1390).

Here: the toy with 32 experts, 300 steps at three learning rates, in the modes of
`switch.selective`, and in two more: float16 all through, and bfloat16 whose weights are bfloat16
between the steps too, where the other modes (and the authors) let the optimizer add to float32
ones. Measured on held-out text: bits per byte early and at the end; which share of the tokens goes
to another expert than in float64, with the same parameters and the same text, once for the routers
alone, each on the very input that it got, and once for the whole model; and how far the gates are
off. A run diverged if its numbers were no longer finite, or if it ends above 7 bits per byte, where
8 is to know nothing.

Which differences mean anything: runs of one seed whose initial embedding differs by a thousandth
end up to 0.05 bits apart after 300 steps, in float32 as in the others.

Bytes are those of an all-to-all, counted: each Switch layer's buffers go to the experts and back,
and so do their gradients. Rounding is emulated, so there are no times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_np import model
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.results import Results, by_arm, curve
from switch_np.experiments.words import mean_and_spread
from switch_np.model import Loss
from switch_np.operations import softmax, tree
from switch_np.operations.precision import WIDTH, round_in_place
from switch_np.switch.config import SwitchConfig
from switch_np.training import selective
from switch_np.training import objective, trainer
from switch_np.training.corpus import Corpus
from switch_np.training.train_config import TrainConfig
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = (0.01, 0.03, 0.1)
EARLY = 0.25                        # of the steps
READ = 8192                         # bytes of held-out text, at each point of the curves
ROUTED = 16                         # windows of it whose routes are compared with float64's
LOST = 7.0                          # bits per byte; 8 is to know nothing
LABELS = {"float32": "float32", "bfloat16": "all bfloat16", "selective": "selective precision",
          "float16": "all float16", "weights": "all bfloat16, weights too"}
PAPER = {"float32": (-1.718, 1160), "bfloat16": (-3.780, 1390), "selective": (-1.716, 1390)}


def advance_weights_too(run: Run, corpus: Any, source: Run | None) -> tuple[Loss, float]:
    """Take a step, and round the weights that it leaves."""
    found = trainer.advance(run, corpus)
    tree.apply(lambda value: round_in_place(value, "bfloat16"), run.params)
    return found


def evaluate(run: Run, corpus: Corpus, source: Run | None) -> dict[str, float]:
    """Return the bits per byte of held-out text, and how the routes differ from float64's."""
    text = corpus.held_out[:READ + 1]
    return {"bits_per_byte": trainer.evaluate(run, text), **against_float64(run, text)}


def against_float64(run: Run, text: np.ndarray) -> dict[str, float]:
    """Return how a run's routers decide, beside float64 with the same parameters and text.

    Returns
    -------
    dict
        router_flips: the share of tokens that a router sends to another expert than float64 would,
        given the same input. ties: the share to whose best probability a router gives two experts,
        so that their order decides. gate_error: by how much the gate differs, median of the tokens
        that go the same way. flips: the share that go another way where the whole model is float64.
        logit: the largest logit's size. All are means over the routers but the last.
    """
    config = run.model_config
    ids = next(objective.held_out(text, ROUTED, run.config.seq_len)).inputs
    _, mine, cache = model.forward(run.stored, ids, config)
    wide = tree.apply(lambda value: value.astype(np.float64), run.params)
    _, exact, _ = model.forward(wide, ids, config)
    found = []
    for layer, out, want in zip(config.switch_layers, mine, exact):
        routed_TD = cache.runs["decoder"].stack.blocks[layer].switch.router.noisy_TD
        x_TD = np.array(routed_TD, np.float64)           # a plain array, which rounds no more
        probs_TE, _ = softmax.forward(x_TD @ wide["decoder"][str(layer)]["switch"]["w_router"])
        expert_T = out.plan.expert[:, 0]
        same_T = expert_T == probs_TE.argmax(axis=1)
        gate_T = np.take_along_axis(probs_TE, out.plan.expert, axis=1)[same_T, 0]
        off_T = np.abs(np.array(out.gates)[same_T, 0] / gate_T - 1)
        top_T1 = out.probs.max(axis=1, keepdims=True)
        found.append({"router_flips": 1 - same_T.mean(),
                      "ties": ((out.probs == top_T1).sum(axis=1) > 1).mean(),
                      "gate_error": np.median(off_T) if len(off_T) else np.nan,
                      "flips": (expert_T != want.plan.expert[:, 0]).mean(),
                      "logit": np.abs(want.logits).max()})
    return {name: float((np.max if name == "logit" else np.mean)([one[name] for one in found]))
            for name in found[0]}


def bytes_per_step(config: ModelConfig, train: TrainConfig) -> int:
    """Return what all-to-alls carry in one step: buffers to the experts and back, and gradients.

    >>> config = ModelConfig()
    >>> [bytes_per_step(config, TrainConfig(dtype=mode)) for mode in ("float32", "selective")]
    [2621440, 1310720]
    """
    capacity = config.switch.expert_capacity(train.batch_size * train.seq_len, True)
    numbers = config.switch.num_experts * capacity * config.d_model
    return 4 * len(config.switch_layers) * numbers * WIDTH[
        selective.MODES[train.dtype][0] or train.dtype]


def at_ends(found: Results, mode: str, rate: float) -> dict[str, np.ndarray]:
    """Return one arm's numbers, a value per seed; bits are NaN where a run diverged."""
    arm = f"{mode}-{rate}"
    rows = {name: by_arm(found.rows, name).get(arm, np.zeros(0))
            for name in ("bits_per_byte", "router_flips", "ties", "flips", "gate_error", "logit")}
    if not len(rows["bits_per_byte"]):
        return {}
    steps, bits = curve(found.curves, arm, "bits_per_byte")
    lost = ~(rows["bits_per_byte"] < LOST)
    rows["early"] = bits[:, np.searchsorted(steps, EARLY * found.rows["steps"].max())]
    rows["end"] = np.where(lost, np.nan, rows.pop("bits_per_byte"))
    return rows | {"diverged": lost}


def summary(found: Results) -> list[dict[str, str]]:
    """Return the numbers of each mode and learning rate, beside the paper's."""
    rows = []
    for mode in LABELS:
        for rate in RATES:
            if not (numbers := at_ends(found, mode, rate)):
                continue
            paper, examples = PAPER.get(mode, (None, None))
            rows.append({
                "precision": LABELS[mode], "learning rate": f"{rate:g}",
                "bits per byte, early": mean_and_spread(numbers["early"], 3),
                "at the end": mean_and_spread(numbers["end"], 3),
                "neg. log perp.": mean_and_spread(-numbers["end"] * np.log(2), 3),
                "diverged": f"{numbers['diverged'].sum()} of {len(numbers['diverged'])}",
                "router flips %": mean_and_spread(100 * numbers["router_flips"], 2),
                "ties %": mean_and_spread(100 * numbers["ties"], 2),
                "gate off by %": mean_and_spread(100 * numbers["gate_error"], 3),
                "all flips %": mean_and_spread(100 * numbers["flips"], 2),
                "all-to-all, MB per step": f"{megabytes(mode):.2f}",
                "paper: neg. log perp.": f"{paper:.3f}" if paper else "",
                "examples/s": str(examples or "")})
    return rows


def megabytes(mode: str) -> float:
    """Return the million bytes that the all-to-alls of one step carry in a mode."""
    arm = next(arm for arm in EXPERIMENT.arms if arm.name.startswith(f"{mode}-"))
    return bytes_per_step(arm.model, arm.train) / 1e6


def draw(found: Results) -> Figure:
    """Draw quality over steps and over learning rates, flipped routes, and bytes."""
    from switch_np import plots

    numbers = {mode: {rate: at_ends(found, mode, rate) for rate in RATES} for mode in LABELS}
    labels = {f"{mode}-{RATES[0]}": label for mode, label in LABELS.items()}
    made, axes = plots.figure(2, 2, size=(13, 8.5))
    plots.curves_by_arm(axes[0, 0], found.curves, labels, "bits_per_byte",
                        "held-out bits per byte")
    plots.finding(axes[0, 0], _cost(numbers))
    ticks = {rate: f"{rate:g}" for rate in RATES}
    plots.ranges(axes[0, 1], _over_rates(numbers, "end"), "peak learning rate",
                 "held-out bits per byte at the end", ticks)
    plots.finding(axes[0, 1], _stability(numbers))
    flips = {label: {rate: 100 * seeds for rate, seeds in rates.items()}
             for label, rates in _over_rates(numbers, "router_flips").items()}
    plots.ranges(axes[1, 0], flips, "peak learning rate", "tokens that the router sends\n"
                 "to another expert than float64 would, %", ticks)
    plots.finding(axes[1, 0], _flips(flips))
    plots.bars(axes[1, 1], {
        LABELS[mode] + (f"\n(paper: {PAPER[mode][1]} examples/s)" if mode in PAPER else ""):
        megabytes(mode) for mode in ("float32", "bfloat16", "selective", "float16")},
        "bytes that the all-to-alls of one training step carry, millions")
    plots.finding(axes[1, 1], "selective precision sends as few bytes as bfloat16: "
                  f"1/{megabytes('float32') / megabytes('selective'):g} of float32's")
    return made


def _over_rates(numbers: dict[str, Any], name: str) -> dict[str, dict[float, np.ndarray]]:
    """Return one of the numbers by label and rate; NaN where a run diverged."""
    return {LABELS[mode]: {rate: np.where(mine["diverged"], np.nan, mine[name])
                           for rate, mine in rates.items() if mine}
            for mode, rates in numbers.items()}


def _cost(numbers: dict[str, Any]) -> str:
    """Say what each mode costs in bits per byte, against float32, at the lowest rate."""
    ends = {mode: np.mean(rates[RATES[0]]["end"]) for mode, rates in numbers.items()}
    costs = [f"{LABELS[mode]} {round(ends[mode] - ends['float32'], 3) + 0.0:+.3f}"
             for mode in ("bfloat16", "selective", "weights")]
    return f"at rate {RATES[0]:g}, bits per byte beyond float32's: " + ", ".join(costs)


def _stability(numbers: dict[str, Any]) -> str:
    """Say how many runs diverged, by mode."""
    lost = {LABELS[mode]: int(sum(mine["diverged"].sum() for mine in rates.values()))
            for mode, rates in numbers.items()}
    runs = sum(len(mine["end"]) for mine in numbers["float32"].values())
    found = ", ".join(f"{label} {count}" for label, count in lost.items() if count)
    return f"of {runs} runs each, diverged (and not drawn): " + (
        f"{found}, others none" if found else "none")


def _flips(flips: dict[str, dict[float, np.ndarray]]) -> str:
    """Say how many routes the routers flip, over the rates."""
    found = [[np.nanmean(seeds) for seeds in flips[LABELS[mode]].values()]
             for mode in ("bfloat16", "selective")]
    return (f"a bfloat16 router sends {min(found[0]):.1f} to {max(found[0]):.1f} % of the tokens "
            f"elsewhere, "
            f"a float32 router in a bfloat16 model {max(found[1]):.2f} %")


def _arms() -> tuple[Arm, ...]:
    toy = ModelConfig(switch=SwitchConfig(num_experts=32, eval_capacity_factor=2.0))
    arms = []
    for mode, label in LABELS.items():
        for rate in RATES:
            train = TrainConfig(steps=300, batch_size=16, warmup=20, learning_rate=rate,
                                dtype="bfloat16" if mode == "weights" else mode)
            arm = Arm(f"{mode}-{rate}", toy, train, label=f"{label}, {rate:g}", evaluate=evaluate)
            arms.append(replace(arm, advance=advance_weights_too) if mode == "weights" else arm)
    return tuple(arms)


EXPERIMENT = Experiment("table2", _arms(), summary, draw, seeds=(0, 1))
