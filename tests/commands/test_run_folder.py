"""A run's folder: an older run is safe, and a broken file is refused by its name."""

import pytest

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
    assert "all 2 steps were done before" in call("train", "--resume", "--name", "a")[0]
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
