"""The command line: `python -m switch_np COMMAND`, each command with --help."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from switch_np.operations import environment

PROGRAM = "python -m switch_np"
COMMANDS = {
    "train": "train a tiny Switch Transformer on text, and watch its experts",
    "sample": "let a trained model write, fill in, or answer",
    "table": "run one of the paper's tables at toy scale",
    "vectors": "write test vectors for any language",
    "verify": "judge what a program computed for a test vector",
    "presets": "list the presets, or say how some of them differ from the paper",
    "sizes": "count parameters and operations of the paper's models, without making them",
    "equations": "find the lines that compute the paper's equations and sections",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: argparse prints its usage first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {_printable(message)}\n")


def main(command_line: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status, or 2 after one line that says what is wrong."""
    words = sys.argv[1:] if command_line is None else list(command_line)
    try:
        if sys.stdout is None:
            raise ValueError("standard output must be open, got a closed one")
        if isinstance(sys.stdout, io.TextIOWrapper):         # a terminal may know few characters
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return _run(_parser(words).parse_args(words))
        finally:
            sys.stdout.flush()                # here a broken pipe can still be caught
    except BrokenPipeError:                   # nobody reads on, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141                            # 128 + SIGPIPE, as a shell reports it of other tools
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, ArithmeticError, OSError, MemoryError, RecursionError) as error:
        with suppress(OSError):               # the terminal itself may be gone
            print(f"{PROGRAM} {words[0]}: error: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.errno and error.filename is None:
        text = f"standard output: {error.strerror}"
    if isinstance(error, MemoryError) and not text:
        text = "not enough memory"
    return _printable(text)


def _printable(text: str) -> str:
    """Return a text with the characters that a terminal would obey escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser with the arguments of the one command that the words name."""
    parser = Parser(prog=PROGRAM, description=(
        "The Switch Transformer in NumPy, forwards and backwards by hand."))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        description = f"{purpose[0].upper()}{purpose[1:]}."
        command = commands.add_parser(name, help=purpose, description=description)
        if name in words[:1]:
            importlib.import_module(f"switch_np.commands.{name}").add_arguments(command)
    return parser


def _run(args: argparse.Namespace) -> int:
    from switch_np.operations import threads      # NumPy comes with it: after the environment

    threads.count()                               # refuses a wrong number before any work begins
    status: int = importlib.import_module(f"switch_np.commands.{args.command}").run(args)
    return status


def _restart_in_environment() -> None:
    """Replace this process by one with the wanted environment, which NumPy reads at import."""
    # A table's runs are processes of their own, one per core, and so are ranks.
    alone = sys.argv[1:2] == ["table"] or any(w.startswith("--parallel") for w in sys.argv)
    added = environment.missing(own_threads=1 if alone else None)
    if os.name == "posix" and added:
        os.environ.update(added)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    _restart_in_environment()
    sys.exit(main())
