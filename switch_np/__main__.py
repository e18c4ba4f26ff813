"""The command line: `python -m switch_np COMMAND`, each command with --help."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from switch_np.commands import environment

COMMANDS = {
    "train": "train a tiny Switch Transformer on text, and watch its experts",
    "sample": "let a trained model write, fill in, or answer",
    "table": "run one of the paper's tables at toy scale",
    "vectors": "write test vectors for any language",
    "verify": "judge what a program computed for a test vector",
    "presets": "list the presets, or say how some of them differ from the paper",
    "equations": "lead from the paper's equations and sections to the lines that compute them",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, or 2 with a line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m switch_np", description=(
        "The Switch Transformer in NumPy, forwards and backwards by hand."))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = sys.argv[1:] if words is None else list(words)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper()
                                      + purpose[1:] + ".",
                                      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        if name in words[:1]:
            importlib.import_module(f"switch_np.commands.{name}").add_arguments(command)
    args = parser.parse_args(words)
    args.words = words[1:]
    from switch_np.operations import threads      # NumPy comes with it: after the environment

    try:
        threads.count()                           # refuses a wrong number before any work begins
        status: int = importlib.import_module(f"switch_np.commands.{args.command}").run(args)
        return status
    except (ValueError, TypeError, FloatingPointError, OSError) as error:
        print(f"{parser.prog} {args.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _in_its_environment() -> None:
    """Start this process again with what `environment` wants, which is read when NumPy is imported.
    """
    # A table's runs are processes of their own, one a core.
    added = environment.missing(own_threads=1 if sys.argv[1:2] == ["table"] else None)
    if os.name == "posix" and added:
        os.environ.update(added)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    _in_its_environment()
    sys.exit(main())
