"""The options of `train`, and the configs that they make.

An option that is not given keeps the task's default, or the value of the run to start from.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from switch_np.conventions.table import CHOICES
from switch_np.operations import check, environment
from switch_np.switch.config import SwitchConfig
from switch_np.training import selective, tasks
from switch_np.training.adafactor import Adafactor
from switch_np.training.train_config import TrainConfig
from switch_np.training.optimizer import AdamW
from switch_np.training.trainer import Run
from switch_np.training.vocabulary import VOCAB_SIZE
from switch_np.transformer.model_config import TIES, ModelConfig

PER_BLOCK = 2 ** 12    # bytes of a block besides its parameters
OPTIMIZERS = {"adamw": AdamW, "adafactor": Adafactor}
RATES = {"adamw": 1e-2, "adafactor": 0.2}     # Adafactor's is relative to the parameters' own size


def capacity_factor(word: str) -> float | None:
    """Read a capacity factor: a number, or 'none' for no limit."""
    return None if word == "none" else float(word)


def mesh(word: str) -> tuple[int, int]:
    """Read the shape of a mesh, such as 4x2, or 4 for 4x1."""
    n, _, m = word.partition("x")
    shape = integer(n), integer(m or "1")
    if min(shape) < 1:
        raise ValueError
    return shape


def integer(word: str) -> int:
    """Read a whole number of at most 64 bits."""
    if abs(value := int(word)) >= 2 ** 63:
        raise ValueError
    return value


def number_or_all(word: str) -> int | str:
    """Read a whole number, or "all"."""
    return word if word == "all" else integer(word)


INT, FLOAT = {"type": integer, "metavar": "N"}, {"type": float, "metavar": "X"}
FACTOR, FLAG = {"type": capacity_factor, "metavar": "X"}, {"action": "store_true"}
TRIES = {"type": number_or_all, "metavar": "N"}

# Options that set a field of the same name: how it is read, or its choices; its help; its aliases.
Options = Mapping[str, Sequence[Any]]
SWITCH: Options = {
    "num_experts": (INT, "experts per Switch layer; 8 for spans and pairs", "--experts"),
    "top_k": (INT, "experts per token; 1 is Switch"),
    "tries": (TRIES, "experts that a token may ask for a slot; 'all': no token left behind"),
    "capacity_factor": (FACTOR, "X * tokens / experts slots each, in training; none: no limit"),
    "eval_capacity_factor": (FACTOR, "the same for held-out text"),
    "jitter": (FLOAT, "the router's input is multiplied by U(1-X, 1+X)"),
    "expert_dropout": (FLOAT, "dropout rate inside the experts")}
MODEL: Options = {
    "balance_coef": (FLOAT, "coefficient of the load-balancing loss"),
    "z_coef": (FLOAT, "coefficient of the router z-loss"),
    "dropout": (FLOAT, "dropout rate"),
    "switch_every": (INT, "a Switch layer in blocks 1, 1+N, 1+2N ... (from 0); 1: all, 0: none"),
    "encoder_switch_every": (INT, "the same in an encoder (default: as --switch-every)"),
    "switch_attention": (FLAG, "in these blocks, Switch layers also make queries, keys and values"),
    "num_layers": (INT, "blocks of the decoder; 2 for spans and pairs", "--layers", "--depth"),
    "num_encoder_layers": (INT, "blocks of the encoder; 2 for spans and pairs", "--encoder-layers"),
    "d_model": (INT, "width of the residual stream; 64 for spans and pairs", "--width"),
    "d_ff": (INT, "width inside an expert; 128 for spans and pairs"),
    "num_heads": (INT, "attention heads; 4 for spans and pairs", "--heads"),
    "activation": (CHOICES["expert_activation"], "in feed-forward networks and experts"),
    "gated": (FLAG, "gated networks and experts; T5 1.1 has --activation gelu_tanh with it"),
    "tie_embeddings": (TIES, "one table for both stacks and the head; for the stacks alone "
                             "(inputs: spans, pairs); or for none"),
    "vocab_size": (INT, f"number of ids; {VOCAB_SIZE} for spans, pairs and fine-tuning on them"),
    "init_scale": (FLOAT, "weights begin with standard deviation sqrt(X / fan-in)")}
TRAIN: Options = {
    "task": (list(tasks.TASKS), "what the model predicts: the next byte (decoder-only), missing "
                                "spans of text (encoder-decoder), or the target of each source "
                                "(--text FILE of pairs, one a line, source TAB target)"),
    "seq_len": (INT, "bytes per window; 32 for spans; for pairs, at most this many ids, 128"),
    "corruption": (FLOAT, "for --task span: fraction of the bytes in missing spans"),
    "mean_span": (FLOAT, "for --task span: mean length of a missing span"),
    "batch_size": (INT, "windows per step; 64 for spans"),
    "steps": (INT, "steps; 1600 for spans, 400 for pairs"),
    "learning_rate": (FLOAT, f"peak learning rate; {RATES['adafactor']} for adafactor, where it is "
                             f"relative to each array's root mean square; 0.003 for pairs", "--lr"),
    "warmup": (INT, "steps in which the rate rises; 50 for spans and pairs"),
    "bias_rate": (FLOAT, "step size of a selection bias that evens out the experts' load"),
    "seed": ({"type": int, "metavar": "N"}, "seed of initialization, text and noise"),
    "dtype": (list(selective.MODES), "precision; selective: bfloat16 with the router in float32")}
FREE = {"capacity_factor", "eval_capacity_factor", "jitter", "expert_dropout", "dropout",
        "balance_coef", "z_coef"}      # fine-tuning may set these anew; the rest is in the weights

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
    """Add the options; the defaults in the help are those of `--task lm`."""
    parser.argument_default = argparse.SUPPRESS       # so that the arguments hold what was given
    add, (model, train) = parser.add_argument, DEFAULTS["lm"]
    for options, config in ((TRAIN, train), (SWITCH, model.switch), (MODEL, model)):
        for name, (form, text, *aliases) in options.items():
            if form is not FLAG and "(default: " not in text:
                text += f" (default: {getattr(config, name)})"
            settings = form if isinstance(form, dict) else {"choices": form}
            add(flag(name), *aliases, help=text, **settings)
    add("--optimizer", choices=sorted(OPTIMIZERS), help="adafactor for spans (default: adamw)")
    add("--dense", action="store_true", help="no Switch layers: the dense baseline")
    add("--text", nargs="+", metavar="FILE",
        help="files to train on, in place of Python's language reference")
    add("--name", help="folder below runs/ (default: the first unused run-N)")
    add("--resume", action="store_true",
        help="resume the run --name, or the latest, with its own options")
    add("--parallel", type=mesh, metavar="NxM", help=(
        "train on N x M ranks, started by `mpiexec -n` N*M: N share the batch and the experts, M "
        "the width of an expert; needs the extra mpi"))
    add("--patience", type=float, metavar="X", help=(
        "seconds that a rank waits for another before it ends the run (default: 60)"))
    add("--from", metavar="RUN", help=(
        "start from this run's parameters, for spans and pairs a run of --task span; its model "
        "stays: give only options of training, noise, dropout, capacity and losses"))


def flag(name: str) -> str:
    """Return the option that sets a field, such as --num-experts."""
    return "--" + name.replace("_", "-")


def configs(options: Mapping[str, Any], base: Run | None = None) -> tuple[ModelConfig, TrainConfig]:
    """Return the configs of the given options, over the task's defaults or a run's model.

    >>> configs({"task": "span", "num_experts": 4})[0].switch.num_experts
    4
    """
    model, train = DEFAULTS[options.get("task", "lm")]
    if base is not None:
        model = base.model_config
        for name in sorted({*SWITCH, *MODEL, "dense"} & {*options} - FREE):
            raise ValueError(f"--from keeps the run's own model, got {flag(name)} "
                             f"{options[name]}")
    if "optimizer" in options:
        train = replace(train, optimizer=OPTIMIZERS[options["optimizer"]](),
                        learning_rate=RATES[options["optimizer"]])
    model = replace(model, switch=_switch(model.switch, options), **_model(model, options))
    train = replace(train, **_given(TRAIN, options))
    _check_memory(model, train)
    _check_effect(options, model, train.task)
    try:
        tasks.check_model(train.task, model)
    except ValueError as error:
        if base is None:
            raise
        raise ValueError(f"--from must name a run whose model suits --task {train.task}, got "
                         f"{options['from']!r}, of --task {base.config.task}: {error}") from error
    if base is None:
        _check_stacks(model)
    return model, train


def _check_memory(model: ModelConfig, train: TrainConfig) -> None:
    """Refuse sizes that cannot fit into the memory that is free; they take more than counted here.

    It counts parameters, gradients, moments, and a step's logits and residual streams.
    """
    size = 8 if train.dtype == "float64" else 4
    blocks, weights = 0, model.vocab_size * model.d_model
    for stack in model.stacks.values():
        experts = model.switch.num_experts * (3 if model.switch_attention else 1)
        networks = stack.num_layers + len(stack.switch_range) * (experts - 1)
        weights += 2 * model.d_model * (networks * model.d_ff
                                        + 2 * stack.num_layers * model.num_heads * model.d_kv)
        blocks += stack.num_layers
    kept = size * weights * (2 if isinstance(train.optimizer, Adafactor) else 4)
    rows = train.batch_size * (1 if train.task == "pairs" else train.seq_len)
    activations = size * rows * (2 * model.vocab_size + blocks * model.d_model)
    values = {**vars(model.switch), **vars(model), **vars(train)}
    for names, needed in (
            (("num_layers", "num_experts", "d_model", "d_ff", "vocab_size"),
             kept + blocks * PER_BLOCK),
            (("batch_size", "seq_len"), activations)):
        sizes = ", ".join(f"{flag(name)} {values[name]}" for name in names)
        environment.check_memory(sizes, needed)


def _given(names: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _switch(switch: SwitchConfig, options: Mapping[str, Any]) -> SwitchConfig:
    network = {f"expert_{name}": value
               for name, value in _given(("activation", "gated"), options).items()}
    if options.get("bias_rate") and "from" not in options:
        network["select_bias"] = True
    return replace(switch, conventions=replace(switch.conventions, **network),
                   **_given(SWITCH, options))


def _model(model: ModelConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    found = _given(MODEL, options)
    if "switch_every" in options:
        found.setdefault("encoder_switch_every", options["switch_every"])
    if options.get("dense"):
        found |= {"switch_every": 0, "encoder_switch_every": 0}
    heads, width = (found.get(name, getattr(model, name)) for name in ("num_heads", "d_model"))
    if "num_heads" in options or "d_model" in options:
        check.integer("num_heads", heads, 1)
        if width % heads:
            raise ValueError(f"--num-heads must divide --d-model, {width}, got {heads}")
        found["d_kv"] = width // heads
    return found


def _check_effect(options: Mapping[str, Any], model: ModelConfig, task: str) -> None:
    """Refuse options that would change nothing."""
    for names, effective, wanted in (
            (["corruption", "mean_span"], task == "span", "--task span"),
            (["encoder_switch_every"], model.encoder, "--task span or pairs"),
            (["switch_every", "encoder_switch_every"], not options.get("dense"), "Switch layers"),
            ([*SWITCH, "balance_coef", "z_coef", "bias_rate", "switch_attention"],
             model.switch_names, "Switch layers")):
        for name in names:
            if name in options and not effective:
                raise ValueError(f"{flag(name)} must go with {wanted}, got {options[name]} without")


def _check_stacks(model: ModelConfig) -> None:
    """Refuse a stack that is too short for the Switch layer that it is to have."""
    for name, stack in model.stacks.items():
        if stack.switch_every and not stack.switch_layers:
            prefix = "encoder-" if name == "encoder" else ""
            raise ValueError(f"--num-{prefix}layers must be at least 2 for a Switch layer in block "
                             f"1, got {stack.num_layers}: --{prefix}switch-every 1 has one in "
                             f"every block, 0 and --dense have none")
