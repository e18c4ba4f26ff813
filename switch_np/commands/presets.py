"""`python -m switch_np presets`: what other libraries and models do differently, and one in words.

The table has a row of at most 100 characters for each; what does not fit ends in "...".
"""

import argparse

from switch_np.conventions import knobs
from switch_np.conventions.families import FAMILIES, SOURCE
from switch_np.conventions.layouts import told
from switch_np.conventions.presets import presets
from switch_np.switch.config import SwitchConfig

ROW = "{:26} {:58} {}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help=(
        "describe these in words; without a NAME, print all as a table"))


def run(args: argparse.Namespace) -> int:
    """Print the table, or the presets that are named."""
    if args.names:
        print("\n\n".join([_in_words(name) for name in args.names]))
        return 0
    print(ROW.format("preset", "differs from the paper, or from another preset", "proof"))
    for name in presets() | FAMILIES:
        told = _knobs(name)
        print(ROW.format(name, told if len(told) <= 58 else f"{told[:55]}...", _proof(name)))
    print("\n`presets NAME` describes one in full. transformers' families have its folders' names.")
    return 0


def _knobs(name: str) -> str:
    """Return what a preset differs in, in its own names."""
    row = FAMILIES.get(name)
    if row and row.alone:
        return f"no preset: a layer {row.alone}"
    base, differs = (f"as {row.base}", row.differs) if row else ("", presets()[name].settings)
    told = ", ".join(f"{knob}={value!r}" for knob, value in differs.items())
    return " but ".join(filter(None, (base, told))) or "nothing"


def _in_words(name: str) -> str:
    if name in FAMILIES and FAMILIES[name].alone:
        row = FAMILIES[name]
        return "\n".join([name, f"source: {SOURCE.format(name)}", f"no preset: a layer {row.alone}",
                          f"instead: {row.line}", f"weights: {told(row.weights) or 'none'}"])
    config, preset = SwitchConfig.like(name), presets()[name]          # refuses unknown names
    lines = [name, f"source: {preset.source}", f"weights: {preset.weights}",
             f"proof: {_proof(name)}", f"experts: {config.num_experts} by default"]
    if name in FAMILIES:
        lines.append(f"like: {preset.same_as or FAMILIES[name].base}"
                     + ", with other settings" * (not preset.same_as))
        lines.append(f"its model's balance loss: {FAMILIES[name].loss}")
    for title, found in (
            ("left out", preset.leaves_out),
            ("differences", knobs.differences(
                config, SwitchConfig(num_experts=config.num_experts), "the paper"))):
        lines += [f"{title}:" if found else f"{title}: nothing", *(f"- {each}" for each in found)]
    return "\n".join(lines)


def _proof(name: str) -> str:
    if name == "paper":
        return "loops"
    if name in FAMILIES and FAMILIES[name].alone:
        return "experts alone" if FAMILIES[name].weights else "none"
    preset = presets()[name]
    proofs = ["recorded"] * preset.recorded + ["live"] * preset.live
    return ", ".join(proofs) or "reading"
