"""Experiments: the same numbers however they are run, stopped and gone on with; and their files."""

import contextlib
import io
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from switch_np import experiments
from switch_np.__main__ import main
from switch_np.experiments import pool, results, runner
from switch_np.experiments.experiment import Arm, Experiment
from switch_np.switch.config import SwitchConfig
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import TrainConfig
from switch_np.transformer.model_config import ModelConfig

TEXT = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 60, np.uint8)
MODEL = ModelConfig(d_model=8, d_ff=16, num_heads=2, d_kv=4, num_layers=2,
                    switch=SwitchConfig(num_experts=3))
TRAIN = TrainConfig(steps=24, batch_size=3, seq_len=12, warmup=2)


def text():
    return Corpus(TEXT[:2000], TEXT[2000:])


def copy_embedding(run, source):
    run.params["embedding"]["table"][:] = source.params["embedding"]["table"]


def explode(run, corpus, source):
    if run.step == 17:
        raise FloatingPointError("not finite")
    return runner.trainer.advance(run, corpus)


ARM = Arm("tiny", MODEL, TRAIN, corpus=text)
STUDENT = Arm("student", replace(MODEL, switch_every=0), TRAIN, needs="tiny", corpus=text,
              begin=copy_embedding)


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


def test_one_seed_gives_one_row_and_another_seed_another():
    first, again, other = (runner.complete(ARM, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.row["bits_per_byte"] != other.row["bits_per_byte"]
    assert (first.row["steps"], first.row["done"]) == (24, 24)
    assert [point["step"] for point in first.curve] == [8, 16, 24]
    assert first.row["bits_per_byte"] == first.curve[-1]["bits_per_byte"]


@pytest.mark.parametrize("stop_at", [1, 8, 13, 23])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, stop_at):
    told = []
    stopped = runner.complete(ARM, 0, tmp_path, stop=lambda: len(told) == stop_at,
                              report=told.append)
    assert stopped is None and told[-1] == stop_at
    assert runner.complete(ARM, 0, tmp_path) == runner.complete(ARM, 0)
    assert runner.complete(ARM, 0, tmp_path) == runner.complete(ARM, 0)     # done: nothing to do


def test_steps_after_the_checkpoint_are_done_again(tmp_path):
    """Killed between history and checkpoint: the history is ahead."""
    told = []
    runner.complete(ARM, 0, tmp_path, stop=lambda: len(told) == 9, report=told.append)
    checkpoint = (tmp_path / "checkpoint.npz").read_bytes()
    runner.complete(ARM, 0, tmp_path)
    (tmp_path / "checkpoint.npz").write_bytes(checkpoint)
    assert runner.complete(ARM, 0, tmp_path) == runner.complete(ARM, 0)


def test_a_checkpoint_of_other_options_or_a_broken_history_is_refused(tmp_path):
    runner.complete(ARM, 0, tmp_path)
    with pytest.raises(ValueError, match="checkpoint must be of arm tiny, seed 1"):
        runner.complete(ARM, 1, tmp_path)
    (tmp_path / "history.json").write_text("{}")
    with pytest.raises(ValueError, match="history must be that of the checkpoint"):
        runner.complete(ARM, 0, tmp_path)


def test_a_run_that_diverges_has_a_row_without_quality(tmp_path):
    outcome = runner.complete(replace(ARM, advance=explode), 0, tmp_path)
    assert (outcome.row["done"], outcome.row["steps"]) == (17, 24)
    assert np.isnan(outcome.row["train_bits"]) and "bits_per_byte" not in outcome.row
    assert [point["step"] for point in outcome.curve] == [8, 16]
    again = runner.complete(replace(ARM, advance=explode), 0, tmp_path)
    assert again.curve == outcome.curve and again.row["done"] == 17
    columns = results.table([outcome.row, runner.complete(ARM, 0).row])
    assert np.isnan(columns["bits_per_byte"]).tolist() == [True, False]


def jobs(folder):
    tiny, student = folder / "tiny", folder / "student"
    return [pool.Job(ARM, 0, tiny, None), pool.Job(STUDENT, 0, student, tiny)]


def test_processes_change_nothing_and_the_needed_arm_comes_first(tmp_path):
    found = {}
    for processes in (1, 2):
        rows = found[processes] = []
        assert pool.run_all(jobs(tmp_path / str(processes)), processes, lambda: False,
                            lambda job, step: None,
                            lambda job, outcome, rows=rows: rows.append(outcome))
    assert found[1] == found[2]
    assert [outcome.row["arm"] for outcome in found[1]] == ["tiny", "student"]


def test_what_goes_wrong_in_a_process_is_said_here(tmp_path):
    broken = [pool.Job(ARM, 0, tmp_path / "a", tmp_path / "nowhere")]
    with pytest.raises(ValueError, match="arm tiny, seed 0: checkpoint must be a readable file"):
        pool.run_all(broken, 2, lambda: False, lambda *_: None, lambda *_: None)


def test_a_stop_ends_all_processes_and_saves(tmp_path):
    slow = replace(ARM, train=replace(TRAIN, steps=4000))
    asked = []
    finished = pool.run_all(
        [pool.Job(slow, seed, tmp_path / str(seed), None) for seed in (0, 1)], 2,
        lambda: bool(asked), lambda job, step: asked.append(step), lambda *_: None)
    assert not finished
    done = [runner.trainer.load(tmp_path / seed / "checkpoint.npz").step for seed in "01"]
    assert 0 < max(done) < 4000


@pytest.fixture
def tiny_experiment(monkeypatch):
    def summary(found):
        return [{"arm": arm, "bits": str(values.mean())} for arm, values in
                results.by_arm(found.rows, "bits_per_byte").items()]

    def draw(found):
        from switch_np import plots

        return plots.figure()[0]

    def speed(rounds, runs):
        return [{"arm": name, "rounds": rounds, "step": run.step} for name, run in runs.items()]

    made = Experiment("tiny", (ARM, STUDENT), summary, draw, (0, 1), speed)
    monkeypatch.setattr(experiments, "NAMES", ("tiny",))
    monkeypatch.setattr(experiments, "load", lambda name: made)
    return made


def test_the_command_stops_goes_on_and_gives_the_same_files(tmp_path, tiny_experiment,
                                                            monkeypatch):
    words = ["table", "tiny", "--processes", "1"]
    out, _ = call(*words, "--out", "whole")
    assert "2 arms, 2 seeds, 4 runs; 4 to do" in out and "whole/ holds options.json" in out
    add = pool.runner.complete

    def interrupted(arm, seed, *rest, report, **options):
        def told(step):
            report(step)
            if (arm.name, seed, step) == ("student", 0, 5):
                os.kill(os.getpid(), signal.SIGINT)
        return add(arm, seed, *rest, report=told, **options)

    monkeypatch.setattr(pool.runner, "complete", interrupted)
    out, _ = call(*words, "--out", "stopped")
    assert "stopped and saved in stopped/" in out
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, "NAMES", ("tiny",))
    monkeypatch.setattr(experiments, "load", lambda name: tiny_experiment)
    out, _ = call(*words, "--out", "stopped")
    assert "4 runs; 3 to do" in out
    for name in ("tiny.csv", "tiny_curves.csv", "tiny_speed.csv", "options.json"):
        whole = (tmp_path / "whole" / name).read_text()
        assert (tmp_path / "stopped" / name).read_text() == whole
    out, _ = call(*words, "--out", "stopped")
    assert "4 runs; 0 to do" in out and "timing in stopped/tiny_speed.csv is kept" in out
    assert (tmp_path / "stopped" / "tiny.png").read_bytes().startswith(b"\x89PNG")


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
                                (["--rounds", "0"], 3, "--rounds N takes it anew"),
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


@pytest.mark.parametrize("name", experiments.NAMES)
def test_each_experiment_is_named_as_its_file_and_says_what_the_paper_claims(name):
    experiment = experiments.load(name)
    file = {"noise": "exploration"}.get(name, name)
    module = __import__(f"switch_np.experiments.{file}", fromlist=["EXPERIMENT"])
    assert experiment.name == name and "paper" in module.__doc__ and "Here" in module.__doc__
    assert experiment.shortened(None) is experiment
    assert max(arm.train.steps for arm in experiment.shortened(7).arms) == 7


def test_arms_are_checked():
    with pytest.raises(ValueError, match="name must be a letter and then"):
        Arm("a/b", MODEL)
    with pytest.raises(ValueError, match="got 'tiny' twice"):
        Experiment("x", (ARM, ARM), None, None)
    with pytest.raises(ValueError, match="needs must name an arm that comes before 'student'"):
        Experiment("x", (STUDENT, ARM), None, None)


def test_csv_files_are_read_as_they_were_written(tmp_path):
    rows = [{"arm": "a", "seed": 0, "bits": 2.123456789}, {"arm": "b", "seed": 1,
                                                           "bits": float("nan"), "more": 0.5}]
    results.write_csv(tmp_path / "x.csv", rows)
    assert (tmp_path / "x.csv").read_text() == "arm,seed,bits,more\na,0,2.12346,\nb,1,,0.5\n"
    columns = results.read_csv(tmp_path / "x.csv")
    assert columns["arm"].tolist() == ["a", "b"] and columns["seed"].tolist() == [0, 1]
    np.testing.assert_array_equal(columns["more"], [np.nan, 0.5])
    with pytest.raises(ValueError, match="results must be there, got none at"):
        results.read("y", tmp_path)


def test_an_arm_runs_live_and_writes_nothing(tmp_path):
    outcome = experiments.run_live("noise", "jitter", steps=2)
    assert outcome.row["done"] == 2 and not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="arm must be one of 'argmax'"):
        experiments.run_live("noise", "louder", steps=2)


def test_steps_to_a_threshold():
    steps, values = np.array([5, 10, 15]), np.array([4.0, 3.0, 3.5])
    assert results.steps_to(steps, values, 4.5) == 5
    assert results.steps_to(steps, values, 3.5) == 7.5
    assert np.isnan(results.steps_to(steps, values, 2.9))
