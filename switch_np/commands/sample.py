"""`python -m switch_np sample`: let the model of a run write."""

from __future__ import annotations

import argparse

import numpy as np

from switch_np.commands import folder as folders
from switch_np.training import trainer
from switch_np.transformer.generate import generate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("run", metavar="RUN", help="name of a run below runs/, or the path of its folder")
    add("--prompt", default="The ", help="text to go on from")
    add("--length", type=int, default=400, metavar="N", help="bytes to write")
    add("--temperature", type=float, default=0.7, metavar="X",
        help="divides the logits; 0 takes the likeliest byte")
    add("--top-k", type=int, default=None, metavar="N",
        help="draw among the N likeliest bytes (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the draws")


def run(args: argparse.Namespace) -> int:
    """Print the prompt and what the model writes after it."""
    if args.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {args.seed}")
    state = trainer.load(folders.existing(args.run) / "checkpoint.npz")
    prompt = np.frombuffer(args.prompt.encode(), np.uint8).astype(np.int64)
    ids = generate(state.params, state.model_config, prompt, args.length,
                   np.random.default_rng(args.seed), temperature=args.temperature,
                   top_k=args.top_k, window=state.config.seq_len)
    print(bytes(ids.tolist()).decode("utf-8", errors="replace"))
    return 0
