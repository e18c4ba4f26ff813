"""What a person sees of a training run: the progress line, the pictures, and the summary."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from switch_np import model
from switch_np.commands import terminal
from switch_np.commands.run_folder import RUNS, Metrics, layer_names, load_fractions
from switch_np.operations import files
from switch_np.training import tasks
from switch_np.training.trainer import Run
from switch_np.transformer.model_parameters import count_params

PASSAGE = 480    # tokens of held-out text in routing.png


def print_start(run: Run, corpus: Any, folder: Path) -> None:
    """Print which model is about to be trained, and on what."""
    config, train, layers = run.model_config, run.config, ", ".join(layer_names(run.model_config))
    encoder = f"{config.num_encoder_layers} + " if config.encoder else ""
    kind = f"Switch layers {layers} with {config.switch.num_experts} experts" if layers else "dense"
    unit, size = "bytes of text", f"{train.batch_size} x {train.seq_len} bytes"
    if train.task == "pairs":
        unit, size = "pairs", f"{train.batch_size} pairs"
    print(f"{encoder}{config.num_layers} blocks, {kind}, {count_params(run.params):,} parameters; "
          f"{len(corpus.train):,} {unit}, {len(corpus.held_out):,} held out")
    if run.step == train.steps:
        print(f"all {run.step} steps are already done", flush=True)
    else:
        print(f"steps {run.step + 1} to {train.steps} of {size}; writes {folder}/; "
              f"Ctrl-C saves and stops", flush=True)


class Line(terminal.Line):
    """The progress line of a run."""

    def __init__(self, run: Run) -> None:
        super().__init__(apart=10)
        self.first, self.shown = run.step, 0.0       # the first step is shown at once
        self.held_out: list[str] = []

    def show(self, run: Run, loss: model.Loss, held_out: float | None,
             more: Sequence[str] = ()) -> None:
        """Show the step just taken, and the latest held-out loss."""
        if held_out is not None:
            self.held_out = [f"held-out {held_out:.2f} at step {run.step}"]
        elif not self.due():
            return
        config, nats, taken = run.config, float(loss.cross_entropy), run.step - self.first
        rate = taken / (time.perf_counter() - self.begun)
        texts = [f"step {run.step}/{config.steps}", f"loss {float(loss.total):.3f}",
                 f"{nats / np.log(2):.2f} bits/byte" if config.task == "lm"
                 else f"neg. log perplexity {-nats:.3f}",
                 f"{rate:.1f} steps/s" if config.task == "pairs"
                 else f"{rate * config.batch_size * config.seq_len:,.0f} bytes/s"]
        if loss.plans:
            dropped = np.mean([plan.dropped_fraction for plan in loss.plans])
            busiest = max(max(load_fractions(plan)) for plan in loss.plans)
            texts += [f"dropped {dropped:.1%}", f"busiest expert {busiest:.0%}"]
        texts += [*more, *self.held_out, self.time_left(taken, config.steps - run.step)]
        self.write(", ".join(texts))


def draw(run: Run, corpus: Any, metrics: Metrics, folder: Path, held_out: float,
         baseline: tuple[str, float]) -> None:
    """Write loss.png, and for a model with experts expert_load.png and routing.png."""
    from switch_np import plots

    steps, measure, (name, level) = metrics.column("step"), metrics.measure, baseline
    figure, axes = plots.figure(size=(8, 4.5))
    plots.loss_curve(axes[0, 0], steps, metrics.column(measure.column),
                     {f"{name}, held-out": level, "this model, held-out": held_out},
                     measure.description)
    axes[0, 0].set_title(f"{held_out:.2f} {measure.description.split(' (')[0]} on held-out text "
                         f"after {run.step} steps ({name} {level:.2f})")
    _write(figure, folder / "loss.png")
    layers, experts = metrics.layers, range(run.model_config.switch.num_experts)
    if not layers or not len(steps):
        return
    figure, axes = plots.figure(rows=len(layers), size=(8, 2.4 * len(layers)))
    for ax, n in zip(axes[:, 0], layers):
        load_SE = np.stack([metrics.column(f"load_{n}_{e}") for e in experts], axis=1)
        plots.expert_load(ax, steps, load_SE, f"Switch layer {n}")
    _write(figure, folder / "expert_load.png")
    _draw_routing(run, corpus, folder)


def _draw_routing(run: Run, corpus: Any, folder: Path) -> None:
    """Colour about PASSAGE held-out tokens, routed as in evaluation; a panel per Switch layer."""
    from switch_np import plots

    config, task = run.model_config, tasks.named(run.config.task)
    rows, lm = max(PASSAGE // run.config.seq_len, 1), run.config.task == "lm"
    batch = next(task.held_out(corpus.held_out, rows, run.config, config))
    _, switched, _ = model.forward(
        run.stored, batch.inputs, config, padding=batch.padding, source=batch.source,
        source_padding=batch.source_padding, rng=np.random.default_rng(run.config.seed))
    figure, axes = plots.figure(rows=len(switched), size=(9, 2.2 * len(switched)))
    for ax, path, name, out in zip(axes[:, 0], config.switch_names, layer_names(config), switched):
        ids, padding = batch.inputs, batch.padding
        if path.startswith("encoder") and batch.source is not None:
            ids, padding = batch.source, batch.source_padding
        real = np.ones(ids.size, bool) if padding is None else ~padding.ravel()
        text = np.where(ids < 256, ids, 0).ravel()[real].astype(np.uint8).tobytes()
        plots.text_by_expert(ax, text, out.plan.expert[real, 0].tolist(),
                             out.plan.kept[real].any(axis=1).tolist(), config.switch.num_experts)
        unit = "byte of held-out text" if lm else "held-out token (a sentinel: ·)"
        first = " first" * (config.switch.num_choices > 1)
        ax.set_title(f"Switch layer {name}: which expert each {unit} goes to{first} "
                     f"({out.plan.dropped_fraction:.1%} dropped)")
    _write(figure, folder / "routing.png")


def _write(figure: Any, path: Path) -> None:
    with files.replacing(path) as file:
        figure.savefig(file, dpi=120)


def print_stopped(run: Run, folder: Path) -> None:
    """Print how to go on."""
    name = folder.name if folder == RUNS / folder.name else str(folder)
    print(f"stopped after step {run.step} and saved; continue with: "
          f"python -m switch_np train --resume --name {shlex.quote(name)}")


def print_end(run: Run, folder: Path, held_out: float, baseline: tuple[str, float],
              text: str) -> None:
    """Print how good the model is, what it writes, and where everything is."""
    measure, (name, level) = tasks.named(run.config.task).measure, baseline
    found = f"{measure.description} {held_out:.3f}, a {name} {level:.3f}"
    if measure is tasks.BITS:
        found = (f"{held_out:.3f} bits per byte, a {name} {level:.3f}; negative log perplexity "
                 f"{-held_out * np.log(2):.3f} nats per byte")
    print(f"\nheld-out text: {found} ({run.seconds:.0f} s of training)\n\n{text}\n\n"
          f"{terminal.contents(folder)}")
