"""`python -m switch_np sizes`: parameters and operations of the paper's large models.

Nothing is allocated. A sequence is T5's: 512 tokens read, and the 114 that span corruption asks
for. Operations are those of all matrix products of a forward pass, each token in one expert.
"""

import argparse
from dataclasses import replace
from math import prod
from typing import Any

from switch_np.experiments import flops
from switch_np.transformer.designs import DESIGNS
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.model_parameters import shapes

SOURCE_LEN, TARGET_LEN = 512, 114
PAPER = {"t5_base": ("0.2B", "124B"), "t5_large": ("0.7B", "425B"), "t5_xxl": ("11B", "6.3T"),
         "switch_base": ("7B", "124B"), "switch_large": ("26B", "425B"),
         "switch_xxl": ("395B", "6.3T"), "switch_c": ("1571B", "890B")}     # table 9
ROW = "{:<16} {:>17} {:>10} {:>12} {:>10}"
NOTE = f"""
operations: multiplications and additions of all matrix products of one forward pass over
{SOURCE_LEN} tokens read and {TARGET_LEN} written; the paper does not say what it counts.
switch_xxl: the paper's 395B is the size with 128 experts, as published, not with its table's 64."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no option."""


def run(args: argparse.Namespace) -> int:
    """Print a row for each design."""
    print(ROW.format("model", "parameters", "the paper", "operations", "the paper"))
    for name in DESIGNS:
        theirs = PAPER.get(name, ("", ""))
        print(ROW.format(name, f"{parameters(name):,}", theirs[0],
                         f"{operations(name) / 1e9:,.0f}B", theirs[1]).rstrip())
    print(NOTE)
    return 0


def parameters(name: str, **overrides: Any) -> int:
    """Return the number of a design's parameters.

    >>> parameters("switch_base_8")
    619339008
    """
    return sum(map(prod, shapes(ModelConfig.like(name, **overrides)).values()))


def operations(name: str) -> int:
    """Return the operations of one sequence's forward pass, no token dropped."""
    config = ModelConfig.like(name)
    free = replace(config.switch, capacity=None, capacity_factor=None, eval_capacity_factor=None)
    return flops.forward(replace(config, switch=free), 1, TARGET_LEN, source_len=SOURCE_LEN)
