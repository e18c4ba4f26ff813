"""`python -m switch_np sample`: let the model of a run write, or one of transformers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.commands import run_folder as folders, terminal, writing
from switch_np.exchange import pretrained_folder as checkpoints
from switch_np.generate import generate
from switch_np.training import trainer
from switch_np.training.vocabulary import encode

PROMPTS = {"lm": "The ", "span": f"The {writing.BLANK} statement is {writing.BLANK}.",
           "pairs": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = terminal.Help
    add = parser.add_argument
    add("run", metavar="RUN", help="name of a run below runs/, or the path of its folder; or a "
                                   "folder with a SwitchTransformers checkpoint of transformers "
                                   "(config.json and .safetensors)")
    add("--prompt", default=None,
        help=f"text to go on from (default: {PROMPTS['lm']!r}); for a run with --task span, text "
             f"with blanks, {writing.BLANK}, to fill in; for pairs, a source to answer")
    add("--ids", type=int, nargs="+", default=None, metavar="N",
        help="for a checkpoint of transformers: token ids in place of --prompt; prints ids")
    add("--length", type=int, default=400, metavar="N", help="tokens to write at most")
    add("--temperature", type=float, default=0.7, metavar="X",
        help="divides the logits; 0 takes the likeliest token")
    add("--top-k", type=int, default=None, metavar="N",
        help="draw among the N likeliest tokens (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the draws")


def run(args: argparse.Namespace) -> int:
    """Print what the model writes."""
    if args.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {args.seed}")
    options = dict(length=args.length, temperature=args.temperature, top_k=args.top_k,
                   rng=np.random.default_rng(args.seed))
    if checkpoints.holds_checkpoint(args.run):
        print(writing.visible(_from_transformers(args, options)))
        return 0
    if args.ids is not None:
        raise ValueError("--ids must go with a checkpoint of transformers, got the run "
                         f"{args.run!r}, which reads text: --prompt")
    state = trainer.load(folders.existing(args.run) / "checkpoint.npz")
    task, model = state.config.task, (state.stored, state.model_config)
    prompt = PROMPTS[task] if args.prompt is None else args.prompt
    if prompt is None:
        raise ValueError("--prompt must be given for a run with --task pairs: a source to answer")
    if task == "lm":
        text = writing.go_on(*model, encode(prompt), window=state.config.seq_len, **options)
    else:
        text = (writing.fill if task == "span" else writing.answer)(*model, prompt, **options)
    print(writing.visible(text))
    return 0


def _from_transformers(args: argparse.Namespace, options: dict[str, Any]) -> str:
    """Return what a checkpoint's decoder writes for the source, as ids or as text."""
    try:
        found = checkpoints.load(args.run)
    except ImportError as error:
        raise ValueError(f"{args.run} cannot be read: {error}") from error
    show: Callable[[list[int]], str] = _as_numbers
    if args.ids is not None:
        source = np.array(args.ids)
    else:
        source, show = _text(args, found.config.vocab_size)
    ids = generate(found.params, found.config, np.array([found.start]), source=source,
                   stop=found.stop, **options)
    return show(ids[1:].tolist())


def _as_numbers(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def _text(args: argparse.Namespace,
          vocab_size: int) -> tuple[np.ndarray, Callable[[list[int]], str]]:
    """Return the prompt's ids, and how ids become text: by the tokenizer, or as bytes."""
    if args.prompt is None:
        raise ValueError("--prompt or --ids must be given for a checkpoint of transformers")
    tokenizer = Path(args.run) / "tokenizer.json"
    if tokenizer.exists():
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ValueError(f"{tokenizer} takes the tokenizers library: pip install tokenizers; "
                             f"or give token ids: --ids") from error
        made = Tokenizer.from_file(str(tokenizer))
        return np.array(made.encode(args.prompt).ids), made.decode
    ids = encode(args.prompt)
    if len(ids) and ids.max() >= vocab_size:
        raise ValueError(f"--prompt must hold bytes below the vocabulary of {vocab_size}, since "
                         f"{args.run} has no tokenizer.json, got {int(ids.max())}: give --ids")
    return ids, lambda out: bytes(n for n in out if n < 256).decode("utf-8", errors="replace")
