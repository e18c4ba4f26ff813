"""Distillation (table 6): a trained Switch model into its dense counterpart.

The paper: a dense student a twentieth of its teacher's size keeps 29 % of what Switch gains over
dense: 3 % when taught by the teacher's probabilities alone, 20 % when started from the teacher's
non-expert weights too, 29 % with the loss 0.75 for the right token and 0.25 for the teacher's
probabilities. The copied weights alone gain nothing.

Here: the toy Switch model (16 experts), after 1,200 steps, is the teacher and routes as in
evaluation, without noise. The student has its d_ff and no experts, and trains for 400 steps on the
same text. A copied weight has the teacher's training behind it; so a student with copied weights is
also compared with a dense model whose own training is as long: 1,200 steps, its weights copied, and
400 steps more. Each has the rate that is best for its model (`rates`).
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from switch_np import model, plots
from switch_np.experiments import rates, results, soft_cross_entropy, toy
from switch_np.experiments.experiment import Arm, Claim, Experiment, ahead, copy_weights, effects
from switch_np.experiments.results import Results, by_arm, curve, intervals
from switch_np.model import Loss
from switch_np.operations import rounded, softmax
from switch_np.training import objective, trainer
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import Run
from switch_np.transformer import cross_entropy
from switch_np.transformer.model_config import ModelConfig

PAPER = {"dense": -1.636, "teacher": -1.444, "copied": -1.639, "probabilities": -1.631,
         "probabilities-copied": -1.598, "mixed-copied": -1.580}

CLAIMS = (
    Claim("student", "A dense student keeps part of the gain, at equal total steps", "29 %",
          ahead("mixed-copied", "longer"), "bits per byte ahead of dense", primary=True),
    Claim("mixed", "The teacher's probabilities add to copied weights", "-1.580 against -1.639",
          ahead("mixed-copied", "copied"), "bits per byte ahead"),
    Claim("probabilities", "The teacher's probabilities alone help", "-1.631 against -1.636",
          ahead("probabilities", "dense"), "bits per byte ahead"),
    Claim("copied", "Copied weights alone gain nothing", "-1.639 against -1.636",
          ahead("dense", "copied", margin=0.02), "bits per byte that dense is ahead"))


def advance(run: Run, corpus: Corpus, source: Run | None, weight: float) -> tuple[Loss, float]:
    """Take a step of the trainer, with `weight` of the loss on the teacher's probabilities.

    Return the loss, whose `cross_entropy` is that of the right tokens alone, and the gradients'
    norm.
    """
    if source is None:
        raise ValueError("source must be the teacher's run, got None")
    begin = time.perf_counter()
    batch = objective.next_byte(run.text_rng, corpus.train, run.config.batch_size,
                                run.config.seq_len)
    targets_T = batch.targets.ravel()
    taught, _, _ = model.forward(source.stored, batch.inputs, source.model_config)
    teacher_TV, _ = softmax.forward(rounded.plain(taught).reshape(len(targets_T), -1))
    target_TV = soft_cross_entropy.mixed_targets(targets_T, teacher_TV, weight)

    def loss_and_grads(params: Mapping[str, Any]) -> tuple[Loss, dict[str, Any]]:
        logits, _, cache = model.forward(params, batch.inputs, run.model_config,
                                         rng=run.noise_rng, training=True)
        logits_TV = rounded.plain(logits).reshape(target_TV.shape)
        loss, loss_cache = soft_cross_entropy.forward(logits_TV, target_TV)
        hard, _ = cross_entropy.forward(logits_TV, targets_T)
        d_logits = soft_cross_entropy.backward(1.0, loss_cache).reshape(logits.shape)
        return Loss(loss, hard, (), (), ()), model.backward(d_logits, cache)

    return trainer.update(run, begin, loss_and_grads)


def kept(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return, by student, the fraction of the teacher's gain over dense that it keeps.

    >>> kept({"dense": np.array([2.1]), "teacher": np.array([2.0]),
    ...       "copied": np.array([2.05])})["copied"].round(3).tolist()
    [0.5]
    """
    gain = values["dense"] - values["teacher"]
    return {arm: (values["dense"] - mine) / gain for arm, mine in values.items()
            if arm not in ("dense", "teacher", "before")}


def summary(found: Results) -> list[dict[str, str]]:
    """Return each arm's size, quality and fraction of the gain, beside the paper's."""
    bits, params = by_arm(found.rows, "bits_per_byte"), by_arm(found.rows, "params")
    means, gains, paper = (kept(each) for each in (
        {arm: values.mean() for arm, values in bits.items()}, bits, PAPER))
    return results.words(bits, {
        "model": EXPERIMENT.labels,
        "parameters": {arm: f"{count[0]:,.0f}" for arm, count in params.items()},
        "bits\nper byte": intervals(bits, 3),
        "neg. log\nperplexity": intervals(bits, 3, -np.log(2)),
        "gain kept,\n% (by seed)": {
            arm: f"{100 * means[arm]:.0f} ({', '.join(f'{100 * one:.0f}' for one in seeds)})"
            for arm, seeds in gains.items()},
        "paper: neg.\nlog perplexity": {arm: f"{value:.3f}" for arm, value in PAPER.items()},
        "paper: gain\nkept, %": {arm: f"{100 * gain:.0f}" for arm, gain in paper.items()}})


def draw(found: Results) -> plots.Figure:
    """Draw quality by arm, and the held-out loss against steps."""
    judged = effects(CLAIMS, found)
    labels, bits = EXPERIMENT.labels, by_arm(found.rows, "bits_per_byte")
    paper = {arm: f"{value:.3f}" for arm, value in PAPER.items()} | {
        arm: f"{PAPER[arm]:.3f} ({100 * gain:.0f} %)" for arm, gain in kept(PAPER).items()}
    figure, axes = plots.figure(columns=2, size=(14, 4.5))
    plots.seeds_by_arm(axes[0, 0], bits, "held-out bits per byte (lower is better)", paper,
                       "the paper: neg. log perplexity (gain kept)", labels=labels)
    plots.finding(axes[0, 0], "0.25 probabilities and copied weights, against dense that trained "
                  f"as long in all: {judged['student']}", 60)
    ends = found.rows["bits_per_byte"]
    plots.curves_by_arm(axes[0, 1], found.curves, labels,
                        ylim=(ends.min() - 0.05, ends.max() + 0.6))
    (steps, dense), (_, copied) = (curve(found.curves, arm, "bits_per_byte")
                                   for arm in ("dense", "copied"))
    leads = dense.mean(axis=0) - copied.mean(axis=0)
    plots.finding(axes[0, 1], f"copied weights alone are {leads[0]:.2f} bits ahead of dense after "
                  f"{steps[0]:.0f} steps, {leads[-1]:.3f} at the end", 60)
    return figure


TEACHING, STUDY = rates.tuned("switch"), rates.tuned("dense", 400)
_student = partial(Arm, model=toy.dense(), train=STUDY, needs="teacher")

EXPERIMENT = Experiment("distillation", (
    Arm("dense", toy.dense(), STUDY, "dense from scratch"),
    Arm("teacher", ModelConfig(), TEACHING, "Switch, the teacher"),
    Arm("before", toy.dense(), rates.tuned("dense"), "dense, trained as long as the teacher"),
    Arm("longer", toy.dense(), STUDY, needs="before", begin=copy_weights,
        label="the same, trained on"),
    _student("copied", begin=copy_weights, label="copied weights alone"),
    _student("probabilities", advance=partial(advance, weight=1.0),
             label="teacher's probabilities alone"),
    _student("probabilities-copied", begin=copy_weights, advance=partial(advance, weight=1.0),
             label="probabilities, copied weights"),
    _student("mixed-copied", begin=copy_weights, advance=partial(advance, weight=0.25),
             label="0.25 probabilities, copied weights")), summary, draw, CLAIMS)
