"""What the commands share: the progress line, signals, help, pipes, and the environment."""

import os
import re
import subprocess
import sys

import pytest

from switch_np import __main__
from switch_np.commands import terminal
from switch_np.operations import environment


@pytest.mark.parametrize("moving, want", [
    (True, "\rone     \rtwo and \n\n"), (False, "one\ntwo and more\n")])
def test_the_line_moves_on_a_terminal_alone(monkeypatch, capsys, moving, want):
    monkeypatch.setenv("COLUMNS", "9")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: moving)
    line = terminal.Line(apart=0 if moving else 60)
    assert not line.due()
    line.write("one")
    line.write("two and more", stays=True)
    line.close()
    assert capsys.readouterr().out == want


def test_the_process_starts_again_once_with_the_environment_it_wants(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda *words: started.append(words))
    for name in environment.missing({}):
        monkeypatch.setenv(name, "")                            # so that it is put back at the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")                  # what is set stays as it is
    __main__._restart_in_environment()
    __main__._restart_in_environment()
    assert started == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "1073741824"
    assert os.environ["OMP_NUM_THREADS"] == "2" and "OPENBLAS_NUM_THREADS" not in os.environ


def test_a_command_ends_silently_when_nobody_reads_on():
    reader, writer = os.pipe()
    os.close(reader)                                            # as `| head` does
    done = subprocess.run([sys.executable, "-m", "switch_np", "presets"], stdout=writer,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                          stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("words", [[], *([name] for name in __main__.COMMANDS)])
def test_help_names_every_option_with_its_default(call, words):
    out = " ".join(call(*words, "--help")[0].split())
    assert " ".join(["usage: python -m switch_np", *words]) in out
    if words == ["train"]:
        assert "(default: 0.01)" in out and "--balance-coef" in out and "(default: 0)" in out
    assert "(default: " in out or words in ([], ["presets"], ["equations"], ["sizes"])
    assert not re.search(r"default: (None|False|\[\])|\(default: [^)]*\) \(default", out)


def test_a_command_that_is_none_is_refused(call):
    assert "invalid choice: 'dance'" in call("dance", status=2)[1]
