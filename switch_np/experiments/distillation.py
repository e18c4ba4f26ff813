"""Distillation (table 6): a trained Switch model into its dense counterpart.

The paper: a dense student a twentieth of its teacher's size keeps 29 % of what Switch gains over
dense. Taught by the teacher's probabilities alone it keeps 3 %; begun from the teacher's
non-expert weights too, 20 %; with the loss 0.75 for the right token and 0.25 for the teacher's
probabilities, 29 %. The copied weights alone gain nothing.

Here: the toy Switch model (16 experts) as the teacher, which routes as in evaluation, without
noise; the student has its d_ff and no experts, and as many steps of its own, with the same text and
the same first weights as dense from scratch in all that is not copied.

A copied weight has been trained by the teacher before, and the toy is far from the end of what
training brings. So a student with copied weights is not to be held against dense from scratch
alone, but against dense trained on: its own weights copied, and as many steps again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_np import model
from switch_np.experiments import soft_cross_entropy, toy
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.experiments.results import Results, by_arm
from switch_np.experiments.words import mean_and_spread
from switch_np.model import Loss
from switch_np.operations import rounded, softmax, tree
from switch_np.training import objective, trainer
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import Run
from switch_np.transformer import cross_entropy
from switch_np.transformer.model_config import ModelConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = {"dense": -1.636, "teacher": -1.444, "copied": -1.639, "probabilities": -1.631,
         "probabilities-copied": -1.598, "mixed-copied": -1.580}
SHARE = 0.25              # of the teacher's probabilities in the mixed loss


def copy_weights(run: Run, source: Run) -> None:
    """Give a student every weight that its teacher has under the same name: all but experts."""
    taught = tree.flatten(source.params)
    for name, value in tree.flatten(run.params).items():
        if name in taught:
            value[:] = taught[name]


def advance(run: Run, corpus: Corpus, source: Run, share: float) -> tuple[Loss, float]:
    """Take a step of the trainer, on the loss with `share` of the teacher's probabilities.

    Returns
    -------
    Loss, float
        `total` is that loss, `cross_entropy` the right tokens' alone; the gradients' norm.
    """
    begin = time.perf_counter()
    batch = objective.next_byte(run.text_rng, corpus.train, run.config.batch_size,
                                run.config.seq_len)
    targets_T = batch.targets.ravel()
    taught, _, _ = model.forward(source.stored, batch.inputs, source.model_config)
    teacher_TV, _ = softmax.forward(rounded.plain(taught).reshape(len(targets_T), -1))
    target_TV = soft_cross_entropy.mixed_targets(targets_T, teacher_TV, share)

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
    """Return, by student, the share of the teacher's gain over dense that is kept.

    `values` has a number, or one per seed, for dense, the teacher and the students.

    >>> kept({"dense": np.array([2.1]), "teacher": np.array([2.0]),
    ...       "copied": np.array([2.05])})["copied"].round(3).tolist()
    [0.5]
    """
    gain = values["dense"] - values["teacher"]
    return {arm: (values["dense"] - mine) / gain for arm, mine in values.items()
            if arm not in ("dense", "teacher")}


def summary(found: Results) -> list[dict[str, str]]:
    """Return size, quality and the share of the gain of each arm, beside the paper's."""
    bits, params = by_arm(found.rows, "bits_per_byte"), by_arm(found.rows, "params")
    means = kept({arm: values.mean() for arm, values in bits.items()})
    shares = {arm: f"{100 * means[arm]:.0f} ({', '.join(f'{100 * one:.0f}' for one in seeds)})"
              for arm, seeds in kept(bits).items()}
    paper = {arm: f"{100 * share:.0f}" for arm, share in kept(PAPER).items()}
    return [{"model": EXPERIMENT.labels[arm], "parameters": f"{params[arm][0]:,.0f}",
             "bits\nper byte": mean_and_spread(bits[arm], 3),
             "neg. log\nperplexity": mean_and_spread(-bits[arm] * np.log(2), 3),
             "gain kept,\n% (by seed)": shares.get(arm, ""),
             "paper: neg.\nlog perplexity": f"{PAPER[arm]:.3f}" if arm in PAPER else "",
             "paper: gain\nkept, %": paper.get(arm, "")} for arm in bits]


def draw(found: Results) -> Figure:
    """Draw quality by arm, and the held-out loss against steps."""
    from switch_np import plots

    labels, bits = EXPERIMENT.labels, by_arm(found.rows, "bits_per_byte")
    words = {arm: f"{PAPER[arm]:.3f}" for arm in bits if arm in PAPER} | {
        arm: f"{PAPER[arm]:.3f} ({100 * share:.0f} %)" for arm, share in kept(PAPER).items()}
    made, axes = plots.figure(columns=2, size=(14, 4.5))
    plots.seeds_by_arm(axes[0, 0], bits, "held-out bits per byte (lower is better)", words,
                       "the paper: neg. log perplexity (gain kept)", labels=labels)
    means = {arm: values.mean() for arm, values in bits.items()}
    ahead = means["longer"] - means["mixed-copied"]
    plots.finding(axes[0, 0], f"0.25 probabilities and copied weights are {abs(ahead):.3f} bits "
                  f"{'ahead of' if ahead > 0 else 'behind'} dense that trained as long as teacher "
                  "and student together", 60)
    plots.curves_by_arm(axes[0, 1], found.curves, labels, "bits_per_byte",
                        "held-out bits per byte", ylim=(
                            min(values.min() for values in bits.values()) - 0.05,
                            max(values.max() for values in bits.values()) + 0.6))
    steps = found.curves["step"] == found.curves["step"].min()
    first = by_arm({name: column[steps] for name, column in found.curves.items()},
                   "bits_per_byte")
    ahead = first["dense"].mean() - first["copied"].mean()
    plots.finding(axes[0, 1], f"copied weights alone are {ahead:.2f} bits ahead of dense after "
                  f"{found.curves['step'].min():.0f} steps, "
                  f"{bits['dense'].mean() - bits['copied'].mean():.3f} at the end", 60)
    return made


_STUDENT = dict(model=toy.dense(), needs="teacher")

EXPERIMENT = Experiment("distillation", (
    Arm("dense", toy.dense(), label="dense from scratch"),
    Arm("teacher", ModelConfig(), label="Switch, the teacher"),
    Arm("longer", toy.dense(), needs="dense", begin=copy_weights, label="dense, trained on"),
    Arm("copied", begin=copy_weights, label="copied weights alone", **_STUDENT),
    Arm("probabilities", advance=partial(advance, share=1.0),
        label="teacher's probabilities alone", **_STUDENT),
    Arm("probabilities-copied", begin=copy_weights, advance=partial(advance, share=1.0),
        label="probabilities, copied weights", **_STUDENT),
    Arm("mixed-copied", begin=copy_weights, advance=partial(advance, share=SHARE),
        label="0.25 probabilities, copied weights", **_STUDENT)), summary, draw, seeds=(0, 1))
