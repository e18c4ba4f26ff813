"""Wrong values for every option of every command: status 2 and one line that names the option."""

import argparse
from pathlib import Path

import pytest

from switch_np import __main__ as program
from switch_np.commands import table, train
from switch_np.oracle import vectors

NEEDED = {"train": [], "sample": ["a"], "table": ["noise"], "vectors": ["--out", "v", "--cases",
          "one_token"], "verify": ["got.npz", "case.npz"], "presets": [], "equations": []}
WRONG = ["", "x", "-1", "nan", "1e30"]


def options(command):
    """Return what a command's parser takes, with a value to be given."""
    commands = next(action for action in program._parser([command])._actions
                    if isinstance(action, argparse._SubParsersAction))
    return [action for action in commands.choices[command]._actions if action.nargs != 0]


CASES = [(command, action.dest, (action.option_strings or [""])[0])
         for command in program.COMMANDS for action in options(command)]


@pytest.mark.parametrize("command, name, option", CASES)
def test_a_wrong_value_is_refused_in_one_line(command, name, option, capsys, monkeypatch, runs,
                                              text):
    monkeypatch.setattr(argparse, "_", str)            # it looks for a translation each time
    for module, long in ((train, "_train"), (train, "_report"), (table, "_complete"),
                         (table, "_report")):
        monkeypatch.setattr(module, long, lambda *_: False)
    if name == "out":
        monkeypatch.setattr(vectors, "write", lambda *_: [])
    needed = NEEDED[command] + (["--text", text] if command == "train" and name != "text" else [])
    for value in WRONG:
        words = ([*needed, f"{option}={value}"] if option else
                 [*needed[1:], "--", value] if command != "verify" else
                 ["--", *(value if name in each else each for each in needed)])
        if command == "sample" and name != "length":
            words = ["--length=2", *words]
        try:
            status = program.main([command, *words])
        except SystemExit as left:
            status = left.code
        _, err = capsys.readouterr()
        shown = (command, words, err)
        if status == 2:
            line = err.removeprefix(f"python -m switch_np {command}: ")
            assert line.count("\n") == 1 and line.startswith("error: "), shown
            told = [name, option or name.upper(), repr(value)]
            told += [] if option else ["case.npz", str(Path(value))]
            assert any(each in line for each in told), shown
        else:
            assert status in (0, 1, 3) and not err, shown
