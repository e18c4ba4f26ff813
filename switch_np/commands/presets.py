"""`python -m switch_np presets`: what other libraries do differently, as a table or in words."""

import argparse

from switch_np.conventions import knobs
from switch_np.conventions.presets import presets
from switch_np.switch.config import SwitchConfig

HEAD = ("preset", "source", "differs from the paper", "how the weights are laid out", "proof")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help=(
        "describe these in words; without a NAME, print all as a Markdown table"))


def run(args: argparse.Namespace) -> int:
    """Print the table, or the presets that are named."""
    if args.names:
        configs = {name: SwitchConfig.like(name) for name in args.names}    # refuses unknown names
        print("\n\n".join(_in_words(*item) for item in configs.items()))
    else:
        for cells in (HEAD, ["---"] * len(HEAD), *map(_row, presets())):
            print(f"| {' | '.join(cells)} |")
    return 0


def _in_words(name: str, config: SwitchConfig) -> str:
    preset = presets()[name]
    lines = [name, f"source: {preset.source}", f"weights: {preset.weights}",
             f"proof: {_proof(name)}"]
    for title, found in (
            ("left out", preset.leaves_out),
            ("against the paper", knobs.differences(config, SwitchConfig(), "the paper"))):
        lines += [f"{title}:" if found else f"{title}: nothing", *(f"- {each}" for each in found)]
    return "\n".join(lines)


def _row(name: str) -> list[str]:
    preset = presets()[name]
    settings = ", ".join(f"{knob}={value!r}" for knob, value in preset.settings.items())
    return [f"`{name}`", preset.source, f"`{settings}`" if settings else "nothing", preset.weights,
            _proof(name)]


def _proof(name: str) -> str:
    if name == "paper":
        return "loops and complex step"
    preset = presets()[name]
    return ("recorded numbers" if preset.recorded else
            "the library itself" if preset.live else "reading alone")
