"""`train --parallel` on MPI: one process's numbers, stopping and going on, and how it ends."""

import os
import re
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from parallel import launch

from commands.same_run import rows
from switch_np.commands import train_options
from switch_np.training import tasks, trainer

STEPS = 60


@pytest.fixture
def words(tiny):
    return ["-m", "switch_np", *tiny, "--num-experts", "4", "--steps", str(STEPS), "--dtype",
            "float64", "--patience", "3"]


@pytest.fixture
def wanted(words):
    """Return the losses of one process with as many groups as the run has ranks."""
    def of(groups):
        value = dict(zip(words[3::2], words[4::2]))
        options = {name.strip("-").replace("-", "_"): int(value[name]) for name in value
                   if value[name].isdigit() and name != "--patience"}
        return one_process(options, [value["--text"]], groups)

    return of


def one_process(options, texts, groups):
    """Return the losses of a run in float64 whose tokens are in groups."""
    model, config = train_options.configs(options | {"dtype": "float64"})
    corpus = tasks.named("lm").load(texts)
    run = trainer.start(replace(model, switch=replace(model.switch, groups=groups)), config, corpus)
    return [float(trainer.advance(run, corpus)[0].total) for _ in range(config.steps)]


def begin(words, name, tmp_path):
    """Start a run on two ranks and return it once it has trained for a while."""
    process = launch.start(2, *words, "--parallel", "2x1", "--name", name, cwd=tmp_path)
    for line in process.stdout:
        if "held-out" in line:
            process.progress = line
            return process
    raise AssertionError(f"{name} ended early")


def number(text):
    return int(text.replace(",", ""))


def losses(name):
    return [float(row["loss"]) for row in rows(name)]


@pytest.mark.crosscheck
def test_ranks_train_as_one_process_and_others_go_on(words, wanted, tmp_path):
    process = begin(words, "a", tmp_path)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    counted, formula = map(number, re.findall(
        r"sends ([\d,]+) bytes/token \(([\d,]+) by the paper's formulas", process.progress)[0])
    assert 0.5 * formula < counted < 1.1 * formula               # packed rows, and what is small
    assert "stopped after step" in out and process.returncode == 0
    done = len(rows("a"))
    assert 12 <= done < STEPS
    out, _ = launch.start(1, "-m", "switch_np", "train", "--resume", "--name", "a", "--parallel",
                          "1", cwd=tmp_path).communicate(timeout=60)
    assert "runs/a/ holds" in out and "sends 0 bytes/token (0 by the" in out
    np.testing.assert_allclose(losses("a"), wanted(2), rtol=1e-8)


@pytest.mark.crosscheck
def test_the_default_toy_ends_with_the_losses_of_one_process_with_two_groups(text, tmp_path):
    out, _ = launch.start(2, "-m", "switch_np", "train", "--parallel", "2x1", "--steps", 20,
                          "--dtype", "float64", "--text", text, "--name", "toy", cwd=tmp_path
                          ).communicate(timeout=300)
    assert "runs/toy/ holds" in out, out
    np.testing.assert_allclose(losses("toy"), one_process({"steps": 20}, [text], 2), rtol=1e-8)


@pytest.mark.crosscheck
@pytest.mark.parametrize("how", ["kill", "stall"])
def test_a_rank_that_is_lost_ends_the_run_and_leaves_what_was_saved(how, words, tmp_path):
    process = begin(words, "b", tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    saved = (tmp_path / "runs/b/checkpoint.npz").read_bytes()
    process = launch.start(2, "-m", "switch_np", "train", "--resume", "--name", "b", "--parallel",
                           "2", "--patience", "2", cwd=tmp_path)
    next(line for line in process.stdout if line.startswith("steps "))
    os.kill(launch.ranks("b")[1], signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    since = time.perf_counter()
    out, _ = process.communicate(timeout=60)
    assert process.returncode and time.perf_counter() - since < 10
    assert ("(signal 9)" if how == "kill" else "rank 0 of 2") in out
    assert (tmp_path / "runs/b/checkpoint.npz").read_bytes() == saved
    trainer.load(tmp_path / "runs/b/checkpoint.npz")


@pytest.mark.crosscheck
def test_an_error_on_one_rank_is_named(words, tmp_path):
    out, _ = launch.start(2, *words, "--parallel", "2", "--learning-rate", "1e300",
                          cwd=tmp_path).communicate(timeout=60)
    assert "FloatingPointError: not finite at step" in out and " of 2, " in out
    assert "Traceback" not in out


def test_without_ranks_their_options_are_refused(call, tiny):
    assert "--patience must go with --parallel" in call(*tiny, "--patience", "3", status=2)[1]
