"""What a person sees of a run: the line that moves, the pictures, the words at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from switch_np import model
from switch_np.commands import terminal
from switch_np.commands.run_folder import Metrics, layer_names, loads
from switch_np.model import Loss
from switch_np.training import tasks
from switch_np.training.trainer import Run
from switch_np.transformer import model_parameters as parameters

PASSAGE = 480    # tokens of held-out text in routing.png


def say_start(run: Run, corpus: Any, folder: Path) -> None:
    """Say what is about to be trained on what."""
    config, train = run.model_config, run.config
    names = ", ".join(layer_names(config))
    kind = (f"Switch layers {names} with {config.switch.num_experts} experts"
            if names else "dense")
    blocks = (f"{config.num_encoder_layers} + {config.num_layers} blocks" if config.encoder
              else f"{config.num_layers} blocks")
    what = "pairs" if train.task == "pairs" else "bytes of text"
    print(f"{blocks}, {kind}, {parameters.count_params(run.params):,} parameters; "
          f"{len(corpus.train):,} {what}, {len(corpus.held_out):,} held out")
    size = (f"{train.batch_size} pairs" if train.task == "pairs"
            else f"{train.batch_size} x {train.seq_len} bytes")
    if run.step == train.steps:
        print(f"all {run.step} steps were done before", flush=True)
    else:
        print(f"steps {run.step + 1} to {train.steps} of {size}; writes {folder}/; "
              f"Ctrl-C saves and stops", flush=True)


class Line(terminal.Line):
    """The progress line of a run."""

    def __init__(self, run: Run) -> None:
        super().__init__(apart=10)
        self.first, self.shown = run.step, 0.0       # the first step is shown at once
        self.held_out: float | None = None

    def show(self, run: Run, loss: Loss, held_out: float | None) -> None:
        """Show the step that was just done."""
        self.held_out = self.held_out if held_out is None else held_out
        if self.due() or held_out is not None:
            self.write(self._text(run, loss, time.perf_counter() - self.begun))

    def _text(self, run: Run, loss: Loss, seconds: float) -> str:
        config, nats = run.config, float(loss.cross_entropy)
        rate = (run.step - self.first) / seconds
        left = int((config.steps - run.step) / rate)
        shown = f"{nats / np.log(2):.2f} bits/byte" if config.task == "lm" else (
            f"neg. log perplexity {-nats:.3f}")
        speed = f"{rate:.1f} steps/s" if config.task == "pairs" else (
            f"{rate * config.batch_size * config.seq_len:,.0f} bytes/s")
        parts = [f"step {run.step}/{config.steps}", f"loss {float(loss.total):.3f}", shown, speed]
        if loss.plans:
            dropped = np.mean([plan.dropped_fraction for plan in loss.plans])
            busiest = max(max(loads(plan)) for plan in loss.plans)
            parts += [f"dropped {dropped:.1%}", f"busiest expert {busiest:.0%}"]
        if self.held_out is not None:
            parts.append(f"held-out {self.held_out:.2f}")
        return ", ".join([*parts, f"{left // 60}:{left % 60:02} left"])


def draw(run: Run, corpus: Any, metrics: Metrics, folder: Path, held_out: float,
         baseline: tuple[str, float]) -> None:
    """Write loss.png, and for a model with experts expert_load.png and routing.png."""
    from switch_np import plots

    steps, measure = metrics.column("step"), metrics.measure
    layers, experts = layer_names(run.model_config), run.model_config.switch.num_experts
    name, level = baseline
    figure, axes = plots.figure(size=(8, 4.5))
    plots.loss_curve(axes[0, 0], steps, metrics.column(measure.column),
                     {f"{name}, held-out": level, "this model, held-out": held_out},
                     measure.description)
    axes[0, 0].set_title(f"{held_out:.2f} {measure.description.split(' (')[0]} on held-out text "
                         f"after {run.step} steps ({name} {level:.2f})")
    figure.savefig(folder / "loss.png", dpi=120)
    if not layers or not len(steps):
        return
    figure, axes = plots.figure(rows=len(layers), size=(8, 2.4 * len(layers)))
    for ax, n in zip(axes[:, 0], layers):
        share_SE = np.stack([metrics.column(f"load_{n}_{e}") for e in range(experts)], axis=1)
        plots.expert_load(ax, steps, share_SE, f"Switch layer {n}")
    figure.savefig(folder / "expert_load.png", dpi=120)
    _draw_routing(run, corpus, folder)


def _draw_routing(run: Run, corpus: Any, folder: Path) -> None:
    """Colour a passage of held-out text by expert, one panel per Switch layer.

    The passage is routed as in evaluation, as many rows of it as PASSAGE tokens hold.
    """
    from switch_np import plots

    config = run.model_config
    rows = max(PASSAGE // run.config.seq_len, 1)
    batch = next(iter(tasks.named(run.config.task).held_out(
        corpus.held_out, rows, run.config, config)))
    _, switched, _ = model.forward(
        run.stored, batch.inputs, config, padding=batch.padding, source=batch.source,
        source_padding=batch.source_padding, rng=np.random.default_rng(run.config.seed))
    figure, axes = plots.figure(rows=len(switched), size=(9, 2.2 * len(switched)))
    for ax, path, name, out in zip(axes[:, 0], config.switch_names, layer_names(config), switched):
        ids, padding = batch.inputs, batch.padding
        if path.startswith("encoder") and batch.source is not None:
            ids, padding = batch.source, batch.source_padding
        real = np.ones(ids.size, bool) if padding is None else ~padding.ravel()
        text = np.where(ids.ravel() < 256, ids.ravel(), 0)[real].astype(np.uint8).tobytes()
        kept = np.asarray(out.plan.kept[real].any(axis=1))
        plots.text_by_expert(ax, text, out.plan.expert[real, 0], kept, config.switch.num_experts)
        what = ("byte of held-out text" if run.config.task == "lm"
                else "held-out token (a sentinel: ·)")
        ax.set_title(f"Switch layer {name}: which expert each {what} goes to first "
                     f"({out.plan.dropped_fraction:.1%} dropped)")
    figure.savefig(folder / "routing.png", dpi=120)


def say_end(run: Run, folder: Path, held_out: float, baseline: tuple[str, float], text: str,
            finished: bool) -> None:
    """Say how good it became, what it writes, and where all is."""
    if not finished:
        print(f"stopped after step {run.step} and saved; go on with: "
              f"python -m switch_np train --resume --name {folder.name}")
    measure, (name, level) = tasks.named(run.config.task).measure, baseline
    found = f"{measure.description} {held_out:.3f}, a {name} {level:.3f}"
    if measure is tasks.BITS:
        found = (f"{held_out:.3f} bits per byte, a {name} {level:.3f}; negative log perplexity "
                 f"{-held_out * np.log(2):.3f} nats per byte")
    print(f"\nheld-out text: {found} "
          f"({run.seconds:.0f} s of training)\n\n{text}\n\n"
          f"{folder}/ holds " + ", ".join(sorted(path.name for path in folder.iterdir())))
