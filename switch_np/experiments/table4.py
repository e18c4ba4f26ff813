"""Table 4: expert dropout when fine-tuning.

The paper, GLUE, CNNDM, SQuAD, SuperGLUE (higher is better): more dropout everywhere does not help
Switch-Base (0.1: 84.7 / 19.1 / 83.7 / 73.0; 0.3: 83.9 / 19.6 / 83.4 / 70.7); dropout 0.1 with 0.4
inside the experts alone does (85.2 / 19.6 / 83.7 / 73.0).

Here: the toy, dense and with 16 experts, is pre-trained once on the built-in text without dropout;
each seed of each arm then fine-tunes that model on 384 pairs (`character_names`), each read 33
times. The arms are three of the paper's settings, no dropout, and 0.05, the rate that suits so
small a model best (-0.37 nats; 0.02: -0.38, 0: -0.43, 0.1: -0.44; means of seeds 100 to 102), each
with and without 0.4 inside the experts. Dropout 0.1 everywhere includes the experts. Quality is the
negative log perplexity of held-out answers after the last step, and the fraction of them that is
right in full.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from switch_np import model, plots
from switch_np.experiments import character_names, results, toy
from switch_np.experiments.experiment import Arm, Claim, Experiment, ahead, copy_weights, effects
from switch_np.experiments.results import Results, Table, by_arm, curve, intervals
from switch_np.experiments.statistics import Effect
from switch_np.operations import softmax
from switch_np.training import tasks
from switch_np.training.train_config import TrainConfig
from switch_np.training.pairs import Pair, PairCorpus
from switch_np.training.trainer import Run
from switch_np.training.vocabulary import VOCAB_SIZE
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.cross_entropy import IGNORED

PRETRAINING = TrainConfig(steps=600)
FINE_TUNING = TrainConfig(task="pairs", steps=400, seq_len=48, warmup=20)

BASE_RATE = 0.05

# By arm: dense or not, dropout, expert dropout.
SETTINGS = {"dense-0.05": (True, BASE_RATE, BASE_RATE),
            "switch-0": (False, 0.0, 0.0), "switch-0-experts-0.4": (False, 0.0, 0.4),
            "switch-0.05": (False, BASE_RATE, BASE_RATE),
            "switch-0.05-experts-0.4": (False, BASE_RATE, 0.4),
            "switch-0.1": (False, 0.1, 0.1), "switch-0.1-experts-0.4": (False, 0.1, 0.4),
            "switch-0.3": (False, 0.3, 0.3)}
# GLUE, CNNDM, SQuAD, SuperGLUE.
PAPER = {"switch-0.1": (84.7, 19.1, 83.7, 73.0),
         "switch-0.3": (83.9, 19.6, 83.4, 70.7),
         "switch-0.1-experts-0.4": (85.2, 19.6, 83.7, 73.0)}
COLORS = {"dense-0.05": "#000000", "switch-0": "#D55E00",
          "switch-0-experts-0.4": "#E69F00", "switch-0.05": "#004D40",
          "switch-0.05-experts-0.4": "#009E73", "switch-0.1": "#0072B2",
          "switch-0.1-experts-0.4": "#56B4E9", "switch-0.3": "#CC79A7"}


def _ahead(first: str, second: str) -> Callable[[Results], Effect]:
    return ahead(first, second, "neg_log_perplexity", higher_is_better=True)


CLAIMS = (
    Claim("tuned", "Expert dropout 0.4 helps fine-tuning, at the best dropout elsewhere",
          "GLUE 85.2 against 84.7", _ahead("switch-0.05-experts-0.4", "switch-0.05"),
          "nats per token ahead", primary=True),
    Claim("at 0.1", "Expert dropout 0.4 helps fine-tuning, at the paper's 0.1 elsewhere",
          "GLUE 85.2 against 84.7", _ahead("switch-0.1-experts-0.4", "switch-0.1"),
          "nats per token ahead"),
    Claim("alone", "Expert dropout 0.4 helps fine-tuning, without other dropout", "not tried",
          _ahead("switch-0-experts-0.4", "switch-0"), "nats per token ahead"),
    Claim("more", "More dropout everywhere hurts: 0.3 against 0.1", "GLUE 83.9 against 84.7",
          _ahead("switch-0.1", "switch-0.3"), "nats per token behind"),
    Claim("dense", "Fine-tuned, Switch is better than dense", "GLUE 84.7 against 82.9",
          _ahead("switch-0.05", "dense-0.05"), "nats per token ahead"))


def measure(run: Run, corpus: PairCorpus) -> dict[str, float]:
    """Return the quality on the held-out pairs, and on every other training pair."""
    quality, right = score(run, corpus.held_out)
    return {"neg_log_perplexity": quality, "right": right,
            "train_neg_log_perplexity": score(run, corpus.train[::2])[0]}


def score(run: Run, pairs: tuple[Pair, ...]) -> tuple[float, float]:
    """Return the negative log perplexity, and the fraction of answers that is right in full.

    An answer is right if greedy decoding, as in evaluation, would write it.
    """
    nats = tokens = right = 0.0
    for batch in tasks.named("pairs").held_out(pairs, 64, run.config, run.model_config):
        logits_BSV, _, _ = model.forward(run.params, batch.inputs, run.model_config,
                                         padding=batch.padding)
        asked_BS = batch.targets != IGNORED
        asked_NV, target_N = logits_BSV[asked_BS], batch.targets[asked_BS]
        probs_NV, _ = softmax.forward(asked_NV.astype(np.float64))
        nats -= np.log(probs_NV[np.arange(len(target_N)), target_N]).sum()
        tokens += len(target_N)
        wrong_BS = np.zeros(asked_BS.shape, bool)
        wrong_BS[asked_BS] = asked_NV.argmax(axis=1) != target_N
        right += (~wrong_BS.any(axis=1)).sum()
    return float(-nats / tokens), float(right / len(pairs))


def at_best(curves: Table, arm: str) -> np.ndarray:
    """Return each seed's best held-out quality on its curve: what early stopping would give."""
    _, values = curve(curves, arm, "neg_log_perplexity")
    return np.asarray(np.nanmax(values, axis=1))


def best_step(curves: Table, arm: str) -> float:
    """Return the step at which the mean held-out quality is best: after it the model overfits."""
    steps, values = curve(curves, arm, "neg_log_perplexity")
    return float(steps[np.nanmean(values, axis=0).argmax()])


def overfit(found: Results, arm: str) -> float:
    """Return how many nats the held-out loss lies above the training loss at the end."""
    train, held_out = (by_arm(found.rows, name)[arm].mean() for name in (
        "train_neg_log_perplexity", "neg_log_perplexity"))
    return float(train - held_out)


def summary(found: Results) -> list[dict[str, str]]:
    """Return each arm's quality, beside the paper's; bits per byte for pre-training."""
    bits, ends, trains, right = ({arm: values for arm, values in by_arm(found.rows, name).items()
                                  if (arm in SETTINGS) == (name != "bits_per_byte")} for name in (
        "bits_per_byte", "neg_log_perplexity", "train_neg_log_perplexity", "right"))
    return results.words([*bits, *ends], {
        "": EXPERIMENT.labels, "bits\nper byte": intervals(bits, 3),
        "held-out\nneg. log perp.": intervals(ends, 3),
        "at its\nbest": intervals({arm: at_best(found.curves, arm) for arm in ends}, 3),
        "best\nat step": {arm: f"{best_step(found.curves, arm):.0f}" for arm in ends},
        "training\nneg. log perp.": intervals(trains, 3), "right %": intervals(right, 1, 100),
        "the paper: GLUE / CNNDM /\nSQuAD / SuperGLUE": {
            arm: " / ".join(map(str, numbers)) for arm, numbers in PAPER.items()}})


def draw(found: Results) -> plots.Figure:
    """Draw quality by seed, the curves, and the held-out against the training loss."""
    judged = effects(CLAIMS, found)
    figure, axes = plots.figure(2, 2, size=(13.5, 9.5))
    draw_seeds(axes[0, 0], found)
    ax = draw_overfitting(axes[0, 1], found, ("switch-0", "switch-0.05", "switch-0.05-experts-0.4"))
    plots.finding(ax, f"0.4 inside the experts on top of 0.05: {judged['tuned']}; without "
                  f"other dropout {judged['alone']}", 64)
    ax = draw_overfitting(axes[1, 1], found, ("switch-0.1", "switch-0.1-experts-0.4", "switch-0.3"))
    none, little, much = (overfit(found, f"switch-{rate}") for rate in ("0", "0.1", "0.3"))
    plots.finding(ax, f"at the end the held-out loss is above the training loss by {none:.2f} nats "
                  f"without dropout, {little:.2f} with 0.1, {much:.2f} with 0.3")
    draw_gap(axes[1, 0], found)
    return figure


def draw_seeds(ax: plots.Axes, found: Results) -> plots.Axes:
    """Draw a dot per seed: the held-out loss after the last step."""
    quality = by_arm(found.rows, "neg_log_perplexity")
    return plots.seeds_by_arm(
        ax, {arm: -quality[arm] for arm in SETTINGS if arm in quality},
        "held-out nats per token after the last step (lower is better)",
        {arm: f"{glue} / {super_glue}" for arm, (glue, _, _, super_glue) in PAPER.items()},
        "the paper: GLUE / SuperGLUE (higher is better)", labels=EXPERIMENT.labels,
        looks={arm: (color, "-") for arm, color in COLORS.items()})


def draw_overfitting(ax: plots.Axes, found: Results, arms: tuple[str, ...]) -> plots.Axes:
    """Draw held-out and training loss against steps, a colour per arm."""
    for column, dashes in (("neg_log_perplexity", "-"), ("train_neg_log_perplexity", ":")):
        labels = {arm: EXPERIMENT.labels[arm] if dashes == "-" else "_unlisted" for arm in arms}
        plots.curves_by_arm(ax, {**found.curves, "loss": -found.curves[column]}, labels, "loss",
                            "nats per token", xlabel="step of fine-tuning", ylim=(0, 1.0),
                            looks={arm: (COLORS[arm], dashes) for arm in arms})
    ax.plot([], [], ":", color="#555555", label="the same on the training pairs")
    ax.legend(fontsize=8)
    return ax


def draw_gap(ax: plots.Axes, found: Results) -> plots.Axes:
    """Draw the held-out against the training loss at the end: above the diagonal is overfitting."""
    judged = effects(CLAIMS, found)
    train, held_out = (by_arm(found.rows, name) for name in (
        "train_neg_log_perplexity", "neg_log_perplexity"))
    shown = [arm for arm in SETTINGS if arm in train]
    top = max(max(-train[arm].min(), -held_out[arm].min()) for arm in shown) * 1.08
    ax.plot([0, top], [0, top], color="#555555", linewidth=1)
    ax.annotate("as good on both", (0.55 * top, 0.55 * top), xytext=(6, -6), fontsize=8,
                textcoords="offset points", va="top")
    for arm, mark in zip(shown, "os^DvPX*<>"):
        ax.plot(-train[arm], -held_out[arm], mark, color=COLORS[arm], markersize=8,
                label=EXPERIMENT.labels[arm], linestyle="none")
    ax.set(xlabel="training pairs: nats per token", ylabel="held-out pairs: nats per token",
           xlim=(0, top), ylim=(0, top))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower right")
    return plots.finding(ax, f"0.4 inside the experts on top of 0.1: {judged['at 0.1']}")


BASE = ModelConfig(vocab_size=VOCAB_SIZE)
KINDS = {"dense": Arm("pretrained-dense", toy.dense(BASE), PRETRAINING, "pre-training, dense",
                      once=True, corpus=toy.text),
         "Switch": Arm("pretrained-switch", BASE, PRETRAINING, "pre-training, Switch",
                       once=True, corpus=toy.text)}


def _fine_tuned(name: str, dense: bool, rate: float, expert_rate: float) -> Arm:
    kind = "dense" if dense else "Switch"
    model = replace(toy.switch(KINDS[kind].model, expert_dropout=expert_rate), dropout=rate)
    label = f"{kind}, dropout {rate:g}" + f", experts {expert_rate:g}" * (expert_rate != rate)
    return Arm(name, model, FINE_TUNING, label, needs=KINDS[kind].name, begin=copy_weights,
               evaluate=measure, corpus=character_names.load)


EXPERIMENT = Experiment("table4", (*KINDS.values(), *(
    _fine_tuned(name, *setting) for name, setting in SETTINGS.items())), summary, draw, CLAIMS,
    kept=tuple(range(10)))
