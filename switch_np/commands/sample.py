"""`python -m switch_np sample`: let the model of a run write, or one of transformers."""

import argparse
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.commands import generated_text, run_folder
from switch_np.exchange import pretrained_folder as checkpoints
from switch_np.generate import generate
from switch_np.operations import check, reading
from switch_np.training import trainer
from switch_np.training.vocabulary import encode

PROMPTS = {"lm": "The ", "span": "The ___ statement is ___.", "pairs": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("run", metavar="RUN", help=(
        "name of a run below runs/, or the path of its folder; or a folder with a "
        "SwitchTransformers checkpoint of transformers (config.json and .safetensors)"))
    add("--prompt", help=(
        f"text to continue (default: {PROMPTS['lm']!r}); for a run with --task span, text with "
        f"blanks, {generated_text.BLANK}, to fill in; for pairs, a source to answer"))
    add("--ids", type=int, nargs="+", metavar="N",
        help="for a checkpoint of transformers: token ids in place of --prompt; prints ids")
    add("--length", type=int, default=400, metavar="N",
        help="maximum number of tokens to write (default: 400)")
    add("--temperature", type=float, default=0.7, metavar="X",
        help="divides the logits; 0 takes the likeliest token (default: 0.7)")
    add("--top-k", type=int, metavar="N", help="draw from the N likeliest tokens (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the draws (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Print what the model writes."""
    check.integer("--seed", args.seed, 0)
    options = dict(length=args.length, temperature=args.temperature, top_k=args.top_k,
                   rng=np.random.default_rng(args.seed))
    write = _from_transformers if checkpoints.holds_checkpoint(args.run) else _from_run
    print(generated_text.visible(write(args, options)))
    return 0


def _from_run(args: argparse.Namespace, options: dict[str, Any]) -> str:
    if args.ids is not None:
        raise ValueError("--ids must go with a checkpoint of transformers, got the run "
                         f"{args.run!r}, which reads text: --prompt")
    state = trainer.load(run_folder.existing(args.run) / "checkpoint.npz")
    prompt = PROMPTS[state.config.task] if args.prompt is None else os.fsencode(args.prompt)
    if prompt is None:
        raise ValueError("--prompt must be given for a run with --task pairs: a source to answer")
    return generated_text.write(state, prompt, **options)


def _from_transformers(args: argparse.Namespace, options: dict[str, Any]) -> str:
    """Return what a checkpoint's decoder writes for the source, as ids or as text."""
    found = checkpoints.load(args.run)
    source, show = _source(args, found.config.vocab_size)
    ids = generate(found.params, found.config, np.array([found.start]), source=source,
                   stop=found.stop, **options)
    return show(ids[1:].tolist())


def _source(args: argparse.Namespace,
            vocab_size: int) -> tuple[np.ndarray, Callable[[list[int]], str]]:
    """Return the source's ids, and how ids are shown: as numbers, by a tokenizer, or as bytes."""
    if args.ids is not None:
        return np.array(args.ids), lambda ids: " ".join(map(str, ids))
    if args.prompt is None:
        raise ValueError("--prompt or --ids must be given for a checkpoint of transformers")
    prompt = os.fsencode(args.prompt)           # as it was typed, UTF-8 or not
    path = Path(args.run) / "tokenizer.json"
    if path.exists():
        try:
            library = importlib.import_module("tokenizers")
        except ImportError as error:
            raise ValueError(f"{path} takes the tokenizers library: pip install tokenizers; "
                             f"or give token ids: --ids") from error
        with reading.naming(path, "a tokenizer of the tokenizers library"):
            tokenizer = library.Tokenizer.from_file(str(path))
        return np.array(tokenizer.encode(prompt.decode(errors="replace")).ids), tokenizer.decode
    ids = encode(prompt)
    if len(ids) and ids.max() >= vocab_size:
        raise ValueError(f"--prompt must hold bytes below the vocabulary of {vocab_size}, since "
                         f"{args.run} has no tokenizer.json, got {int(ids.max())}: give --ids")
    return ids, lambda ids: bytes(n for n in ids if n < 256).decode("utf-8", errors="replace")
