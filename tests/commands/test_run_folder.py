"""A run's folder: an older run is safe, and a broken file is refused by its name."""

import json

import pytest

from switch_np.training import checkpoint

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_an_older_run_is_not_overwritten(runs, call, tiny):
    words = [*tiny, "--steps", "1"]
    assert "--name must be new, got 'a'" in call(*words, "--name", "a", status=2)[1]
    (runs / "notes").mkdir()
    for name in ("config.json", "checkpoint.npz.new"):      # left by a run that was never saved
        (runs / "notes" / name).touch()
    (runs / "notes/sample.txt").write_text("mine")
    assert "'notes', a folder that holds 'sample.txt'" in call(*words, "--name", "notes",
                                                               status=2)[1]
    (runs / "notes/sample.txt").unlink()
    call(*words, "--name", "notes")
    (runs / "run-1").mkdir()
    assert "runs/run-2/" in call(*words)[0]
    rows = (runs / "a/metrics.csv").read_text()
    assert "all 2 steps are already done" in call("train", "--resume", "--name", "a")[0]
    assert (runs / "a/metrics.csv").read_text() == rows


@pytest.mark.parametrize("name, broken, message", [
    ("config.json", "{}", "config.json must be what the run wrote, got"),
    ("config.json", '{"training": 3}', "config.json must be what the run wrote, got"),
    ("config.json", '{"training": {}}', "config.json must be what the run wrote, got"),
    ("config.json", "[]", "config.json must be a JSON file, got another or a broken one: JSON must "
                          "hold an object, got list"),
    ("config.json", "[", "config.json must be a JSON file, got another or a broken one: Expecting"),
    ("metrics.csv", None, "runs/a/metrics.csv must be the steps 1 to 2 as this run wrote them"),
    ("checkpoint.npz", "broken", "runs/a/checkpoint.npz must be an npz file")])
def test_a_broken_file_is_refused_by_its_name(runs, call, name, broken, message):
    path = runs / "a" / name
    path.write_text(path.read_text()[:-90] if broken is None else broken)
    assert message in call("train", "--resume", "--name", "a", status=2)[1]


def test_a_run_goes_on_with_its_own_text_options_and_numbers_alone(runs, call, tmp_path):
    (tmp_path / "other.txt").write_bytes(b"five dozen liquor jugs in a box. " * 90)
    config = json.loads((runs / "a/config.json").read_text())
    rows = (runs / "a/metrics.csv").read_text()
    training = config["training"] | {"seed": config["training"]["seed"] + 1}
    for name, text, message in (
            ("config.json", json.dumps(config | {"text": [str(tmp_path / "other.txt")]}),
             "text must be the one that the run began with"),
            ("config.json", json.dumps(config | {"training": training}),
             "config.json must hold the options of the checkpoint beside it"),
            ("metrics.csv", rows.replace(".", ".1", 1),
             "metrics.csv must be the steps 1 to 2 as this run wrote them")):
        before = (runs / "a" / name).read_text()
        (runs / "a" / name).write_text(text)
        assert message in call("train", "--resume", "--name", "a", status=2)[1]
        (runs / "a" / name).write_text(before)
    call("train", "--resume", "--name", "a")


def test_a_billion_steps_make_no_list(runs, call):
    arrays, state = checkpoint.load(runs / "a/checkpoint.npz")
    state["training"]["steps"] = state["step"] = 10 ** 9
    checkpoint.save(runs / "a/checkpoint.npz", arrays, state)
    config = json.loads((runs / "a/config.json").read_text())
    config["training"]["steps"] = 10 ** 9
    (runs / "a/config.json").write_text(json.dumps(config))
    assert "metrics.csv must be the steps 1 to 1000000000" in call(
        "train", "--resume", "--name", "a", status=2)[1]


def test_numbers_that_are_none_are_named_by_file_and_parameter(runs, call):
    arrays, state = checkpoint.load(runs / "a/checkpoint.npz")
    arrays["params"]["decoder"]["1"]["switch"]["w_router"][2, 1] = float("inf")
    checkpoint.save(runs / "a/checkpoint.npz", arrays, state)
    for words in (["sample", "a"], ["train", "--resume", "--name", "a"]):
        said = call(*words, status=2)[1]
        assert "runs/a/checkpoint.npz must be" in said and said.count("\n") == 1
        assert "params['decoder.1.switch.w_router'] must be finite, got inf at (2, 1)" in said
