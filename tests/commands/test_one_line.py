"""Whatever fails ends in one line with the option or file; no output is lost to an encoding."""

import io
import os
import shutil
import subprocess
import sys

import pytest

from switch_np import __main__
from switch_np.commands import run_folder
from switch_np.operations import environment, files
from switch_np.training import corpus


@pytest.mark.parametrize("words, message", [
    (["--batch-size", str(2 ** 30)], "--batch-size 1073741824, --seq-len 64 must fit into memory"),
    (["--batch-size", str(10 ** 18), "--task", "pairs"], "--batch-size 1000000000000000000"),
    (["--d-model", "1000000"], "--d-model 1000000, --d-ff 64, --vocab-size 256 must fit into mem"),
    (["--num-layers", "1000000000"], "--num-layers 1000000000, --num-experts 16, --d-model 32,"),
    (["--num-layers", "1000000000", "--dense", "--optimizer", "adafactor"], "--num-layers 1000000"),
    (["--num-experts", "1000000000"], "--num-experts 1000000000, --d-model 32, --d-ff 64"),
    (["--steps", "1" * 400], "argument --steps: invalid integer value"),
    (["--name", "a\nb"], "--name must be a plain folder name, got 'a\\nb'"),
    (["--name=-a"], "--name must be a plain folder name, got '-a'")])
def test_sizes_and_names_that_cannot_be(tmp_path, call, words, message):
    assert message in call("train", *words, status=2)[1]
    assert not (tmp_path / "runs").exists()


def test_a_file_without_an_end_is_not_read_to_it(tmp_path, call, monkeypatch):
    with open("large", "wb") as file:
        file.truncate(2 ** 25 + 1)
    for name, free, most in (("large", 2 ** 26, "33,554,432"), ("/dev/zero", 2 ** 40, "1,048,576")):
        monkeypatch.setattr(environment, "free_memory", lambda free=free: free)
        monkeypatch.setattr(corpus, "UNSIZED", 2 ** 20)
        assert (f"error: text must fit into {most} bytes here, got {name}, which is larger\n"
                in call("train", "--text", name, status=2)[1])


@pytest.mark.parametrize("error, message", [
    (MemoryError(), "not enough memory"), (RecursionError("too deep"), "too deep"),
    (OverflowError("too large"), "too large"), (OSError(5, "broken", "a\nb"), "broken: 'a\\nb'"),
    (ValueError("one\ntwo \udcff\x1b[2J"), "one\\ntwo \\udcff\\x1b[2J")])
def test_every_failure_is_one_line(call, monkeypatch, error, message):
    def fails(args):
        raise error

    monkeypatch.setattr(__main__, "_run", fails)
    err = call("presets", status=2)[1]
    assert err.startswith("python -m switch_np presets: error: ") and err.endswith(f"{message}\n")
    assert err.count("\n") == 1


def test_a_wrong_option_is_one_line_without_the_usage(call):
    assert call("train", "--\x1b[2J", status=2)[1] == (
        "python -m switch_np: error: unrecognized arguments: --\\x1b[2J\n")


def test_a_failed_write_names_its_file(tmp_path):
    with pytest.raises(OSError) as raised, files.replacing(tmp_path / "file"):
        raise OSError(28, "No space left on device")
    assert raised.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("redirection, message", [
    (">&-", "standard output must be open, got a closed one"),
    (">/dev/full", "standard output: No space left on device")])
def test_output_that_cannot_be_written(redirection, message):
    words = f'"{sys.executable}" -m switch_np presets paper {redirection}'
    done = subprocess.run(words, shell=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                          stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, f"python -m switch_np presets: error: {message}\n")


def test_an_ascii_terminal_loses_nothing(runs, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert __main__.main(["sample", "a", "--prompt", "pack \udcff é ⏎", "--length", "3"]) == 0
    assert b"pack \\ufffd \\xe9 \\u23ce" in sys.stdout.buffer.getvalue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.StringIO())
        assert __main__.main(["sample", "spans", "--prompt", "\udcff ___", "--length", "3"]) == 0
        assert sys.stdout.getvalue().startswith("\ufffd ")


@pytest.mark.usefixtures("no_pictures")
def test_a_text_whose_name_is_not_utf_8_is_found_again(tmp_path, call, tiny, text):
    name = os.fsdecode(b"\xff.txt")
    shutil.copy(text, tmp_path / name)
    call(*tiny, "--text", name, "--steps", "1", "--name", "a b")
    assert run_folder.read_config(tmp_path / "runs/a b").text == [str(tmp_path / name)]
    assert "all 1 steps are already done" in call("train", "--resume", "--name", "a b")[0]
