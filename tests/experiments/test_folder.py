"""Runs on disk: what one table has, another with the same arm and seed takes."""

from dataclasses import replace

from experiments.tiny import ARM, STUDENT
from switch_np.experiments import results, runner
from switch_np.experiments.experiment import Experiment
from switch_np.experiments.folder import Folder


def experiment(name, *arms):
    return Experiment(name, arms, None, None)


def test_a_run_of_the_same_options_and_seed_is_taken_over(tmp_path):
    first = Folder(experiment("first", ARM, STUDENT), tmp_path / "first")
    for seed in (0, 1):
        first.add(runner.complete(ARM, seed, first.run("tiny", seed)))
    other = replace(ARM, name="other", train=replace(ARM.train, learning_rate=0.5))
    twin = replace(ARM, name="twin")
    second = Folder(experiment("second", twin, other, replace(STUDENT, needs="twin")),
                    tmp_path / "second")
    second.borrow([1, 2])
    assert set(second.rows) == {("twin", 1)} and second.rows["twin", 1][0]["arm"] == "twin"
    assert second.seconds["twin"]["1"] == first.seconds["tiny"]["1"] > 0
    again = runner.complete(twin, 1, second.run("twin", 1))           # whole: nothing to do
    assert again.row == {**first.rows["tiny", 1][0], "arm": "twin"}
    kept = results.read("second", tmp_path / "second")
    assert kept.curves["step"].tolist() == [8, 16, 24] and set(kept.curves["arm"]) == {"twin"}


def test_neighbours_that_are_broken_or_just_begun_are_passed_over(tmp_path):
    begun = Folder(experiment("first", ARM), tmp_path / "begun")
    results.write_csv(begun.path / "first_curves.csv", [{"arm": "tiny"}])     # the rows come last
    whole = Folder(experiment("first", ARM), tmp_path / "whole")
    whole.add(runner.complete(ARM, 0, whole.run("tiny", 0)))
    (whole.run("tiny", 0) / "checkpoint.npz").unlink()
    broken = Folder(experiment("first", ARM), tmp_path / "broken")
    broken.add(runner.complete(ARM, 1, broken.run("tiny", 1)))
    (broken.path / "options.json").write_text("{")
    mine = Folder(experiment("second", ARM), tmp_path / "mine")
    mine.borrow([0, 1])
    assert not mine.rows and not list(mine.path.glob("*seed*"))


def test_the_machine_and_the_processor_time_stand_beside_the_numbers(tmp_path):
    folder = Folder(experiment("first", ARM), tmp_path)
    folder.add(runner.complete(ARM, 3))
    about = results.reading.json_file(tmp_path / "first_machine.json")
    assert about["processor seconds"]["tiny"]["3"] > 0 and about["numpy"] and about["machine"]
    assert Folder(experiment("first", ARM), tmp_path).seconds == folder.seconds
