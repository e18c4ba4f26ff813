"""The options of `train`, and the configs that they make.

An option that was not given leaves what the task's default, or the run to start from, has there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from switch_np.commands import terminal
from switch_np.conventions.table import CHOICES
from switch_np.operations import check
from switch_np.switch.config import SwitchConfig
from switch_np.training import selective
from switch_np.training import tasks
from switch_np.training.adafactor import Adafactor
from switch_np.training.optimizer import AdamW
from switch_np.training.train_config import TrainConfig
from switch_np.training.vocabulary import VOCAB_SIZE
from switch_np.transformer.model_config import TIES, ModelConfig

OPTIMIZERS = {"adamw": AdamW, "adafactor": Adafactor}
RATES = {"adamw": 1e-2, "adafactor": 0.2}      # Adafactor's is relative to the parameters' own size
SWITCH = {"num_experts", "top_k", "capacity_factor", "eval_capacity_factor", "jitter",
          "expert_dropout"}
MODEL = {"balance_coef", "z_coef", "dropout", "switch_every", "encoder_switch_every", "num_layers",
         "num_encoder_layers", "d_model", "d_ff", "num_heads", "init_scale", "activation", "gated",
         "tie_embeddings", "vocab_size"}
TRAIN = {"task", "seq_len", "batch_size", "steps", "learning_rate", "warmup", "seed", "dtype",
         "corruption", "mean_span"}
FREE = {"capacity_factor", "eval_capacity_factor", "jitter", "expert_dropout", "dropout",
        "balance_coef", "z_coef"}      # what fine-tuning may set anew; the rest is in the weights

ENCODER_DECODER = ModelConfig(
    vocab_size=VOCAB_SIZE, num_layers=2, num_encoder_layers=2, d_model=64, d_ff=128, num_heads=4,
    d_kv=16, tie_embeddings="inputs", switch=SwitchConfig(num_experts=8, eval_capacity_factor=2.0))
DEFAULTS = {"lm": (ModelConfig(), TrainConfig()),
            "span": (ENCODER_DECODER, TrainConfig(
                task="span", steps=1600, batch_size=64, seq_len=32, warmup=50,
                learning_rate=RATES["adafactor"], optimizer=Adafactor())),
            "pairs": (ENCODER_DECODER, TrainConfig(
                task="pairs", seq_len=128, steps=400, learning_rate=3e-3, warmup=50))}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; the defaults shown are those of `--task lm`."""
    parser.formatter_class = terminal.Help
    model, train = DEFAULTS["lm"]
    add = parser.add_argument
    add("--task", choices=list(tasks.TASKS), default="lm",
        help="what the model is asked: the byte that follows (decoder-only), missing spans of text "
             "(encoder-decoder), or the target to each source (--text FILE of pairs, one a line, "
             "source TAB target)")
    add("--from", dest="start_from", default=None, metavar="RUN",
        help="fine-tune: start from the parameters of this run, for spans and pairs one of --task "
             "span; only options of training, noise, dropout, capacity and losses may be given "
             "then")
    _add_switch(add, model)
    _add_sizes(add, model)
    add("--seq-len", type=int, default=train.seq_len, metavar="N",
        help="bytes per window; 32 for spans; for pairs the most ids of a source or target, 128")
    add("--corruption", type=float, default=train.corruption, metavar="X",
        help="of --task span: share of the bytes that missing spans take")
    add("--mean-span", type=float, default=train.mean_span, metavar="X",
        help="of --task span: mean length of a missing span")
    add("--batch-size", type=int, default=train.batch_size, metavar="N",
        help="windows per step; 64 for spans")
    add("--steps", type=int, default=train.steps, metavar="N",
        help="steps; 1600 for spans, 400 for pairs")
    add("--learning-rate", "--lr", type=float, default=train.learning_rate, metavar="X",
        help=f"peak learning rate; {RATES['adafactor']} for adafactor, where it is relative to "
             f"each array's root mean square; 0.003 for pairs")
    add("--optimizer", choices=sorted(OPTIMIZERS), default="adamw", help="adafactor for spans")
    add("--warmup", type=int, default=train.warmup, metavar="N",
        help="steps in which the rate rises; 50 for spans and pairs")
    add("--seed", type=int, default=train.seed, metavar="N",
        help="seed of initialization, text and noise")
    add("--dtype", choices=list(selective.MODES), default=train.dtype,
        help="precision; selective: bfloat16 with the router in float32")
    add("--text", nargs="+", default=[], metavar="FILE",
        help="files to train on, in place of Python's language reference")
    add("--name", default=None, help="folder below runs/ (default: the first free run-N)")
    add("--resume", action="store_true",
        help="go on with the run --name, or with the latest; its own options hold")


def _add_switch(add: Any, model: ModelConfig) -> None:
    switch = model.switch
    add("--num-experts", "--experts", type=int, default=switch.num_experts, metavar="E",
        help="experts per Switch layer; 8 for spans and pairs")
    add("--top-k", type=int, default=switch.top_k, metavar="K",
        help="experts per token; 1 is Switch")
    add("--capacity-factor", type=_factor, default=switch.capacity_factor, metavar="X",
        help="slots per expert in training, as a multiple of the even share; 'none': no limit")
    add("--eval-capacity-factor", type=_factor, default=switch.eval_capacity_factor,
        metavar="X", help="the same for held-out text")
    add("--balance-coef", type=float, default=model.balance_coef, metavar="X",
        help="factor of the load-balancing loss")
    add("--z-coef", type=float, default=model.z_coef, metavar="X",
        help="factor of the router z-loss")
    add("--jitter", type=float, default=switch.jitter, metavar="X",
        help="the router's input is multiplied by U(1-X, 1+X)")
    add("--dropout", type=float, default=model.dropout, metavar="X", help="dropout rate")
    add("--expert-dropout", type=float, default=switch.expert_dropout, metavar="X",
        help="dropout rate inside the experts")
    add("--switch-every", type=int, default=model.switch_every, metavar="N",
        help="a Switch layer in blocks 1, 1+N, 1+2N ..., counted from 0; 1: in all, 0: in none")
    add("--encoder-switch-every", type=int, default=None, metavar="N",
        help="the same in the encoder of spans and pairs (default: as --switch-every)")
    add("--dense", action="store_true", help="no Switch layers: the dense baseline")


def _add_sizes(add: Any, model: ModelConfig) -> None:
    add("--num-layers", "--layers", "--depth", type=int, default=model.num_layers, metavar="N",
        help="blocks of the decoder; 2 for spans and pairs")
    add("--num-encoder-layers", "--encoder-layers", type=int, default=model.num_encoder_layers,
        metavar="N", help="blocks of the encoder; 2 for spans and pairs")
    add("--d-model", "--width", type=int, default=model.d_model, metavar="N",
        help="width of the residual stream; 64 for spans and pairs")
    add("--d-ff", type=int, default=model.d_ff, metavar="N",
        help="width inside an expert; 128 for spans and pairs")
    add("--num-heads", "--heads", type=int, default=model.num_heads, metavar="N",
        help="attention heads; 4 for spans and pairs")
    add("--activation", choices=CHOICES["expert_activation"], default=model.activation,
        help="of the feed-forward networks and the experts")
    add("--gated", action="store_true",
        help="gated networks and experts; T5 1.1 has --activation gelu_tanh with it")
    add("--tie-embeddings", choices=TIES, default=model.tie_embeddings,
        help="one table for both stacks and the head; for the stacks alone (inputs: spans, pairs); "
             "or for none")
    add("--vocab-size", type=int, default=model.vocab_size, metavar="N",
        help=f"token ids; {VOCAB_SIZE} for spans and pairs, and for what is to be fine-tuned on "
             f"them")
    add("--init-scale", type=float, default=model.init_scale, metavar="X",
        help="s of the initialization")


def given(words: Sequence[str]) -> dict[str, Any]:
    """Return the options that stand among the words of a command line, defaults left out.

    >>> given(["--steps", "7", "--dense"])
    {'dense': True, 'steps': 7}
    """
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return dict(sorted(vars(parser.parse_args(list(words))).items()))


def configs(options: dict[str, Any],
            base: ModelConfig | None = None) -> tuple[ModelConfig, TrainConfig]:
    """Return the configs that the given options make, on the task's defaults or on `base`.

    >>> configs({"task": "span", "num_experts": 4})[0].switch.num_experts
    4
    """
    model, train = DEFAULTS[options.get("task", "lm")]
    if base is not None:
        model = base
        for name in (SWITCH | MODEL | {"dense"}) - FREE:
            if name in options:
                raise ValueError(f"--from goes on with the run's own model, got "
                                 f"--{name.replace('_', '-')} {options[name]}")
    if "optimizer" in options:
        train = replace(train, optimizer=OPTIMIZERS[options["optimizer"]](),
                        learning_rate=RATES[options["optimizer"]])
    model = replace(model, switch=_switch(model.switch, options), **_model(model, options))
    train = replace(train, **{name: options[name] for name in TRAIN & set(options)})
    _check_effect(options, model, train.task)
    if base is None:
        tasks.check_model(train.task, model)
        _check_stacks(model)
    return model, train


def _check_effect(options: dict[str, Any], model: ModelConfig, task: str) -> None:
    """Refuse options that would change nothing."""
    for names, effective, wanted in (
            (["corruption", "mean_span"], task == "span", "--task span"),
            (["encoder_switch_every"], model.encoder, "--task span or pairs"),
            (["switch_every", "encoder_switch_every"], not options.get("dense"), "Switch layers"),
            (sorted(SWITCH | {"balance_coef", "z_coef"}), model.switch_names, "Switch layers")):
        for name in names:
            if name in options and not effective:
                raise ValueError(f"--{name.replace('_', '-')} must go with {wanted}, got "
                                 f"{options[name]} without")


def _check_stacks(model: ModelConfig) -> None:
    """Refuse a stack that is too short for the Switch layer that it is to have."""
    for name, stack in model.stacks.items():
        if stack.switch_every and not stack.switch_layers:
            prefix = "encoder-" if name == "encoder" else ""
            raise ValueError(f"--num-{prefix}layers must be at least 2 for a Switch layer in block "
                             f"1, got {stack.num_layers}: --{prefix}switch-every 1 has one in "
                             f"every block, 0 and --dense have none")


def _switch(switch: SwitchConfig, options: dict[str, Any]) -> SwitchConfig:
    given = {f"expert_{name}": options[name] for name in ("activation", "gated") if name in options}
    return replace(switch, conventions=replace(switch.conventions, **given),
                   **{name: options[name] for name in SWITCH & set(options)})


def _model(model: ModelConfig, options: dict[str, Any]) -> dict[str, Any]:
    found = {name: options[name] for name in MODEL & set(options)}
    if "switch_every" in options:
        found.setdefault("encoder_switch_every", options["switch_every"])
    if options.get("dense"):
        found |= {"switch_every": 0, "encoder_switch_every": 0}
    heads, width = (found.get(name, getattr(model, name)) for name in ("num_heads", "d_model"))
    if {"num_heads", "d_model"} & set(options):
        check.integer("num_heads", heads, 1)
        if width % heads:
            raise ValueError(f"--num-heads must divide --d-model, {width}, got {heads}")
        found["d_kv"] = width // heads
    return found


def _factor(word: str) -> Any:
    """Read a capacity factor: a number, or 'none' for no limit."""
    return None if word == "none" else float(word)
