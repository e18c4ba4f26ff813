"""What a person sees of a run: the line that moves, the pictures, the words at the end."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np

from switch_np.commands.folder import Metrics, loads
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import Run
from switch_np.transformer import model, parameters
from switch_np.transformer.model import Loss

PASSAGE = 480    # bytes of held-out text in routing.png


def say_start(run: Run, corpus: Corpus, folder: Path) -> None:
    """Say what is about to be trained on what."""
    config, train = run.model_config, run.config
    layers = config.switch_layers
    names = ", ".join(map(str, layers))
    kind = (f"Switch layers {names} with {config.switch.num_experts} experts"
            if layers else "dense")
    count = parameters.count_params(run.params)
    print(f"{config.num_layers} blocks, {kind}, {count:,} parameters; "
          f"{len(corpus.train):,} bytes of text, {len(corpus.held_out):,} held out")
    if run.step == train.steps:
        print(f"all {run.step} steps were done before", flush=True)
    else:
        print(f"steps {run.step + 1} to {train.steps} of {train.batch_size} x {train.seq_len} "
              f"bytes; writes {folder}/; Ctrl-C saves and stops", flush=True)


class Line:
    """The progress line: in place on a terminal, a new line now and then elsewhere."""

    def __init__(self, run: Run) -> None:
        self.moving = sys.stdout.isatty()
        self.begun, self.first = time.perf_counter(), run.step
        self.shown = 0.0
        self.held_out: float | None = None

    def show(self, run: Run, loss: Loss, held_out: float | None) -> None:
        """Show the step that was just done."""
        now = time.perf_counter()
        self.held_out = self.held_out if held_out is None else held_out
        due = now - self.shown >= (0.1 if self.moving else 10)
        if not (due or held_out is not None):
            return
        self.shown = now
        text = self._text(run, loss, now - self.begun)
        if self.moving:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + text[:width].ljust(width), end="", flush=True)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """End the moving line."""
        if self.moving:
            print(flush=True)

    def _text(self, run: Run, loss: Loss, seconds: float) -> str:
        config, nats = run.config, float(loss.cross_entropy)
        rate = (run.step - self.first) / seconds
        left = int((config.steps - run.step) / rate)
        parts = [f"step {run.step}/{config.steps}", f"loss {float(loss.total):.3f}",
                 f"{nats / np.log(2):.2f} bits/byte",
                 f"{rate * config.batch_size * config.seq_len:,.0f} tokens/s"]
        if loss.plans:
            dropped = np.mean([plan.dropped_fraction for plan in loss.plans])
            busiest = max(max(loads(plan)) for plan in loss.plans)
            parts += [f"dropped {dropped:.1%}", f"busiest expert {busiest:.0%}"]
        if self.held_out is not None:
            parts.append(f"held-out {self.held_out:.2f}")
        return ", ".join([*parts, f"{left // 60}:{left % 60:02} left"])


def draw(run: Run, corpus: Corpus, metrics: Metrics, folder: Path, held_out: float,
         bigram: float) -> None:
    """Write loss.png, and for a model with experts expert_load.png and routing.png."""
    from switch_np import plots

    steps = metrics.column("step")
    layers, experts = run.model_config.switch_layers, run.model_config.switch.num_experts
    figure, axes = plots.figure(size=(8, 4.5))
    plots.loss_curve(axes[0, 0], steps, metrics.column("bits_per_byte"),
                     {"byte bigram, held-out": bigram, "this model, held-out": held_out})
    axes[0, 0].set_title(f"{held_out:.2f} bits per held-out byte after {run.step} steps "
                         f"(byte bigram {bigram:.2f})")
    figure.savefig(folder / "loss.png", dpi=120)
    if not layers or not len(steps):
        return
    figure, axes = plots.figure(rows=len(layers), size=(8, 2.4 * len(layers)))
    for ax, n in zip(axes[:, 0], layers):
        share_SE = np.stack([metrics.column(f"load_{n}_{e}") for e in range(experts)], axis=1)
        plots.expert_load(ax, steps, share_SE, f"Switch layer {n}")
    figure.savefig(folder / "expert_load.png", dpi=120)
    _draw_routing(run, corpus, folder)


def _draw_routing(run: Run, corpus: Corpus, folder: Path) -> None:
    """Colour a passage of held-out text by expert, one panel per Switch layer.

    The passage is routed as in evaluation, in windows of the training length.
    """
    from switch_np import plots

    length = run.config.seq_len
    windows = max(min(PASSAGE, len(corpus.held_out)) // length, 1)
    passage = corpus.held_out[:windows * length]
    _, switched, _ = model.forward(
        run.params, passage.reshape(windows, length).astype(np.int64), run.model_config)
    layers = run.model_config.switch_layers
    figure, axes = plots.figure(rows=len(layers), size=(9, 2.2 * len(layers)))
    for ax, n, out in zip(axes[:, 0], layers, switched):
        plots.text_by_expert(ax, passage.tobytes(), out.plan.expert[:, 0],
                             out.plan.kept.any(axis=1), run.model_config.switch.num_experts)
        ax.set_title(f"Switch layer {n}: which expert each byte of held-out text goes to first "
                     f"({out.plan.dropped_fraction:.1%} dropped)")
    figure.savefig(folder / "routing.png", dpi=120)


def say_end(run: Run, folder: Path, held_out: float, bigram: float, text: str,
            finished: bool) -> None:
    """Say how good it became, what it writes, and where all is."""
    if not finished:
        print(f"stopped after step {run.step} and saved; go on with: "
              f"python -m switch_np train --resume --name {folder.name}")
    print(f"\nheld-out text: {held_out:.3f} bits per byte, a byte bigram {bigram:.3f} "
          f"({run.seconds:.0f} s of training)\n\n{text}\n\n"
          f"{folder}/ holds " + ", ".join(sorted(path.name for path in folder.iterdir())))
