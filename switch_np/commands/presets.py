"""`python -m switch_np presets`: list what other libraries do differently, or say it in words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from switch_np.commands import terminal
from switch_np.conventions import knobs
from switch_np.conventions.presets import Preset, presets
from switch_np.switch.config import SwitchConfig

HEAD = ("preset", "source", "differs from the paper", "how the weights are laid out", "proof")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = terminal.Help
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="say in words how these differ; a Markdown table of all if left out")


def run(args: argparse.Namespace) -> int:
    """Print the table, or the presets that are named."""
    if not args.names:
        print("\n".join(table()))
        return 0
    configs = {name: SwitchConfig.like(name) for name in args.names}     # refuses an unknown one
    print("\n\n".join("\n".join(told(name, config)) for name, config in configs.items()))
    return 0


def table() -> Iterator[str]:
    """Yield the lines of a Markdown table of all presets."""
    for cells in (HEAD, ["---"] * len(HEAD), *map(_row, presets())):
        yield f"| {' | '.join(cells)} |"


def told(name: str, config: SwitchConfig) -> Iterator[str]:
    """Yield lines that tell one preset in words."""
    preset = presets()[name]
    yield name
    yield f"source: {preset.source}"
    yield f"weights: {preset.weights}"
    yield f"proof: {_proof(name, preset)}"
    for title, lines in (
            ("left out", preset.leaves_out),
            ("against the paper", knobs.differences(config, SwitchConfig(), "the paper"))):
        yield f"{title}:" if lines else f"{title}: nothing"
        yield from (f"- {line}" for line in lines)


def _row(name: str) -> list[str]:
    preset = presets()[name]
    differs = ", ".join(f"{knob}={value!r}" for knob, value in preset.settings.items())
    return [f"`{name}`", preset.source, f"`{differs}`" if differs else "nothing", preset.weights,
            _proof(name, preset)]


def _proof(name: str, preset: Preset) -> str:
    if name == "paper":
        return "loops and complex step"
    return "recorded numbers" if preset.recorded else "reading alone"
