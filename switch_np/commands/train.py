"""`python -m switch_np train`: train, show how it goes, and leave numbers and pictures behind."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.commands import folder as folders, progress
from switch_np.commands.folder import Metrics
from switch_np.switch.config import SwitchConfig
from switch_np.training import corpus as corpora, trainer
from switch_np.training.adafactor import Adafactor
from switch_np.training.corpus import Corpus
from switch_np.training.optimizer import AdamW
from switch_np.training.trainer import Run, TrainConfig
from switch_np.transformer.config import ModelConfig
from switch_np.transformer.generate import generate

EVALUATIONS = 5       # times that the held-out text is read during a run
OPTIMIZERS = {"adamw": AdamW, "adafactor": Adafactor}
SAVE_SECONDS = 30     # at most this much work is lost when the machine stops


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; their defaults are the configs' own."""
    model, train = ModelConfig(), TrainConfig()
    add = parser.add_argument
    add("--num-experts", "--experts", type=int, default=model.switch.num_experts, metavar="E",
        help="experts per Switch layer")
    add("--top-k", type=int, default=model.switch.top_k, metavar="K",
        help="experts per token; 1 is Switch")
    add("--capacity-factor", type=_factor, default=model.switch.capacity_factor, metavar="X",
        help="slots per expert in training, as a multiple of the even share; 'none': no limit")
    add("--eval-capacity-factor", type=_factor, default=model.switch.eval_capacity_factor,
        metavar="X", help="the same for held-out text")
    add("--balance-coef", type=float, default=model.balance_coef, metavar="X",
        help="factor of the load-balancing loss")
    add("--z-coef", type=float, default=model.z_coef, metavar="X",
        help="factor of the router z-loss")
    add("--jitter", type=float, default=model.switch.jitter, metavar="X",
        help="the router's input is multiplied by U(1-X, 1+X)")
    add("--dropout", type=float, default=model.dropout, metavar="X", help="dropout rate")
    add("--expert-dropout", type=float, default=model.switch.expert_dropout, metavar="X",
        help="dropout rate inside the experts")
    add("--switch-every", type=int, default=model.switch_every, metavar="N",
        help="a Switch layer in every N-th block")
    add("--dense", action="store_true", help="no Switch layers: the dense baseline")
    add("--num-layers", "--layers", "--depth", type=int, default=model.num_layers, metavar="N",
        help="blocks")
    add("--d-model", "--width", type=int, default=model.d_model, metavar="N",
        help="width of the residual stream")
    add("--d-ff", type=int, default=model.d_ff, metavar="N", help="width inside an expert")
    add("--num-heads", "--heads", type=int, default=model.num_heads, metavar="N",
        help="attention heads")
    add("--init-scale", type=float, default=model.init_scale, metavar="X",
        help="s of the initialization")
    add("--seq-len", type=int, default=train.seq_len, metavar="N", help="bytes per window")
    add("--batch-size", type=int, default=train.batch_size, metavar="N", help="windows per step")
    add("--steps", type=int, default=train.steps, metavar="N", help="steps")
    add("--learning-rate", "--lr", type=float, default=train.learning_rate, metavar="X",
        help="peak learning rate")
    add("--optimizer", choices=sorted(OPTIMIZERS), default="adamw",
        help="adafactor's rate is relative to each array's root mean square: try --lr 0.1")
    add("--warmup", type=int, default=train.warmup, metavar="N",
        help="steps in which the rate rises")
    add("--seed", type=int, default=train.seed, metavar="N",
        help="seed of initialization, text and noise")
    add("--dtype", choices=["float32", "float64"], default=train.dtype, help="precision")
    add("--text", nargs="+", default=[], metavar="FILE",
        help="files to train on, in place of Python's language reference")
    add("--name", default=None, help="folder below runs/ (default: the first free run-N)")
    add("--resume", action="store_true",
        help="go on with the run --name, or with the latest; its own options hold")


def run(args: argparse.Namespace) -> int:
    """Train to the end, or until Ctrl-C; both leave a checkpoint and the pictures."""
    if args.resume:
        _refuse_options(args)
        folder = folders.existing(args.name)
        files = folders.read_config(folder)["text"]
        corpus = corpora.load(files)
        state = trainer.load(folder / "checkpoint.npz", corpus)
    else:
        folder = folders.new(args.name)
        files = args.text
        corpus = corpora.load(files)
        state = trainer.start(*_configs(args), corpus)
        folders.write_config(folder, state, files)
    metrics = Metrics(folder / "metrics.csv", state)
    progress.say_start(state, corpus, folder)
    finished = _train(state, corpus, metrics, folder)
    _leave(state, corpus, metrics, folder, finished)
    return 0


def _refuse_options(args: argparse.Namespace) -> None:
    """Refuse options that a resumed run would not heed."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    usual = vars(parser.parse_args([]))
    for name in usual.keys() - {"resume", "name"}:
        if (value := getattr(args, name)) != usual[name]:
            raise ValueError(f"--resume goes on with the run's own options, "
                             f"got --{name.replace('_', '-')} {value}")


def _configs(args: argparse.Namespace) -> tuple[ModelConfig, TrainConfig]:
    if args.num_heads < 1 or args.d_model % args.num_heads:
        raise ValueError(f"--num-heads must divide --d-model, {args.d_model}, "
                         f"got {args.num_heads}")
    switch = SwitchConfig(
        num_experts=args.num_experts, top_k=args.top_k, capacity_factor=args.capacity_factor,
        eval_capacity_factor=args.eval_capacity_factor, jitter=args.jitter,
        expert_dropout=args.expert_dropout)
    model = ModelConfig(
        d_model=args.d_model, d_ff=args.d_ff, num_heads=args.num_heads,
        d_kv=args.d_model // args.num_heads, num_layers=args.num_layers,
        switch_every=0 if args.dense else args.switch_every, switch=switch, dropout=args.dropout,
        balance_coef=args.balance_coef, z_coef=args.z_coef, init_scale=args.init_scale)
    train = TrainConfig(
        steps=args.steps, batch_size=args.batch_size, seq_len=args.seq_len,
        learning_rate=args.learning_rate, warmup=args.warmup, seed=args.seed, dtype=args.dtype,
        optimizer=OPTIMIZERS[args.optimizer]())
    return model, train


def _train(state: Run, corpus: Corpus, metrics: Metrics, folder: Path) -> bool:
    """Advance to the last step; return False if a signal asked to stop before it.

    A signal only sets a flag, so that no step is left half done.
    """
    asked: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: asked.append(number))
              for number in (signal.SIGINT, signal.SIGTERM)}
    line = progress.Line(state)
    every = max(state.config.steps // EVALUATIONS, 1)
    saved = state.seconds
    try:
        while state.step < state.config.steps and not asked:
            loss, norm = trainer.advance(state, corpus)
            measured = None
            if state.step % every == 0 or state.step == state.config.steps:
                measured = trainer.evaluate(state, corpus.held_out)
            metrics.add(state, loss, norm, measured)
            line.show(state, loss, measured)
            if state.seconds > saved + SAVE_SECONDS:
                saved = state.seconds
                _save(state, metrics, folder)
    finally:
        line.close()
        _save(state, metrics, folder)
        for number, handler in before.items():
            signal.signal(number, handler)
    return state.step == state.config.steps


def _save(state: Run, metrics: Metrics, folder: Path) -> None:
    """Write metrics before the checkpoint, so that a checkpoint always has its rows."""
    metrics.write()
    trainer.save(state, folder / "checkpoint.npz")


def _leave(state: Run, corpus: Corpus, metrics: Metrics, folder: Path, finished: bool) -> None:
    """Draw, let the model write, and say where all is."""
    bigram = corpora.bigram_bits_per_byte(corpus)
    held_out = metrics.column("held_out_bits_per_byte")
    measured = float(held_out[-1]) if finished else trainer.evaluate(state, corpus.held_out)
    try:
        progress.draw(state, corpus, metrics, folder, measured, bigram)
    except ImportError:
        print("matplotlib is not installed: no pictures are drawn")
    text = _sample(state, corpus)
    folders.write_text(folder / "sample.txt", text + "\n")
    progress.say_end(state, folder, measured, bigram, text, finished)


def _sample(state: Run, corpus: Corpus, prompt_length: int = 32, length: int = 300) -> str:
    """Return a piece of held-out text and what the model writes after it."""
    prompt = corpus.held_out[:prompt_length].astype(np.int64)
    ids = generate(state.params, state.model_config, prompt, length,
                   np.random.default_rng(state.config.seed), temperature=0.7,
                   window=state.config.seq_len)
    return bytes(ids.tolist()).decode("utf-8", errors="replace")


def _factor(word: str) -> Any:
    """Read a capacity factor: a number, or 'none' for no limit."""
    return None if word == "none" else float(word)
