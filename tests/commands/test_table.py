"""The command `table`: it stops and resumes, keeps timings, and refuses what does not fit."""

import contextlib
import io
import os
import signal

import pytest

from experiments.tiny import ARM, STUDENT
from switch_np import experiments, plots
from switch_np.__main__ import main
from switch_np.experiments import pool, results
from switch_np.experiments.experiment import Experiment


def call(*words, status=0):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            found = main(words)
        except SystemExit as exit:
            found = exit.code
    assert found == status, err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny_experiment(monkeypatch):
    def summary(found):
        return [{"arm": arm, "bits": str(values.mean())} for arm, values in
                results.by_arm(found.rows, "bits_per_byte").items()]

    def draw(found):
        return plots.figure(size=(1, 1))[0]

    def speed(rounds, runs):
        return [{"arm": name, "rounds": rounds, "step": run.step} for name, run in runs.items()]

    made = Experiment("tiny", (ARM, STUDENT), summary, draw, seeds=(0, 1), speed=speed)
    monkeypatch.setattr(experiments, "NAMES", ("tiny",))
    monkeypatch.setattr(experiments, "load", lambda name: made)
    return made


def test_the_command_stops_goes_on_and_gives_the_same_files(tmp_path, tiny_experiment,
                                                            monkeypatch):
    words = ["table", "tiny", "--processes", "1"]
    out, _ = call(*words, "--out", "a/whole")
    assert "2 arms, 2 seeds, 4 runs; 4 to do" in out and "whole/ holds options.json" in out
    add = pool.runner.complete

    def interrupted(arm, seed, *rest, report, **options):
        def told(step):
            report(step)
            if (arm.name, seed, step) == ("student", 0, 5):
                os.kill(os.getpid(), signal.SIGINT)
        return add(arm, seed, *rest, report=told, **options)

    monkeypatch.setattr(pool.runner, "complete", interrupted)
    out, _ = call(*words, "--out", "b/stopped")
    assert "stopped and saved in b/stopped/" in out
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, "NAMES", ("tiny",))
    monkeypatch.setattr(experiments, "load", lambda name: tiny_experiment)
    out, _ = call(*words, "--out", "b/stopped")
    assert "4 runs; 3 to do" in out
    for name in ("tiny.csv", "tiny_curves.csv", "tiny_speed.csv", "options.json"):
        whole = (tmp_path / "a" / "whole" / name).read_text()
        assert (tmp_path / "b" / "stopped" / name).read_text() == whole
    out, _ = call(*words, "--out", "b/stopped")
    assert "4 runs; 0 to do" in out and "timing in b/stopped/tiny_speed.csv is kept" in out
    assert (tmp_path / "b" / "stopped" / "tiny.png").read_bytes().startswith(b"\x89PNG")


def test_seeds_are_added_and_other_options_refused(tmp_path, tiny_experiment):
    words = ["table", "tiny", "--processes", "1", "--steps", "6", "--rounds", "0"]
    call(*words, "--seeds", "3")
    out, _ = call(*words, "--seeds", "3", "1")
    folder = tmp_path / "runs" / "tables" / "tiny"
    found = results.read("tiny", folder)
    assert "4 runs; 2 to do" in out and not found.speed
    assert found.rows["seed"].tolist() == [1, 3, 1, 3]
    assert found.rows["steps"].tolist() == [6] * 4
    _, err = call("table", "tiny", "--processes", "1", status=2)
    assert "--out must hold results of the same arms and steps" in err
    curves = folder / "tiny_curves.csv"
    before = curves.read_text()
    curves.unlink()
    for seeds in (["3"], ["3", "4"]):
        _, err = call(*words, "--seeds", *seeds, status=2)
        assert "tiny.csv without tiny_curves.csv: delete the first" in err
    (folder / "tiny.csv").unlink()
    call(*words, "--seeds", "1", "3")
    assert curves.read_text() == before
    (folder / "options.json").unlink()
    assert "no options.json" in call(*words, status=2)[1]


def test_a_timing_is_kept_until_rounds_are_asked_for(tmp_path, tiny_experiment):
    for words, rounds, said in ((["--rounds", "3"], 3, "timing 3 steps"), ([], 3, "is kept"),
                                (["--rounds", "0"], 3, "--rounds N measures again"),
                                (["--rounds", "4"], 4, "timing 4 steps")):
        out, _ = call("table", "tiny", "--processes", "1", "--steps", "6", "--seeds", "0", *words)
        assert said in out
        found = results.read("tiny", tmp_path / "runs" / "tables" / "tiny")
        assert found.speed["rounds"].tolist() == [rounds] * 2


@pytest.mark.parametrize("words, message", [
    (["table1000"], "invalid choice: 'table1000'"),
    (["noise", "--seeds", "-1"], "--seeds must be at least 0, none twice, got -1"),
    (["noise", "--seeds", "2", "2"], "--seeds must be at least 0, none twice, got 2 2"),
    (["noise", "--seeds", "one"], "argument --seeds: invalid int value: 'one'"),
    (["noise", "--seeds"], "argument --seeds: expected at least one argument"),
    (["noise", "--steps", "0"], "steps must be at least 1, got 0"),
    (["noise", "--processes", "0"], "--processes must be at least 1, got 0"),
    (["noise", "--rounds", "-1"], "--rounds must be at least 0, got -1"),
    (["noise", "--rounds", "5"], "--rounds must be left out for noise, which measures no speed"),
])
def test_mistakes_get_one_line_and_status_2(tmp_path, words, message):
    _, err = call("table", *words, status=2)
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "runs").exists()
