"""Every experiment: its name, its table and picture, and its results in the repository."""

import importlib

import pytest

from experiments.tiny import ARM, MODEL, STUDENT, copy_embedding, fake
from switch_np import experiments
from switch_np.experiments import results
from switch_np.experiments.experiment import Arm, Experiment


@pytest.mark.parametrize("name", experiments.NAMES)
def test_each_experiment_is_named_as_its_file_and_says_what_the_paper_claims(name):
    experiment = experiments.load(name)
    file = {"noise": "exploration", "memory-rates": "memory_rates"}.get(name, name)
    says = importlib.import_module(f"switch_np.experiments.{file}").__doc__
    assert experiment.name == name
    assert ("The paper" in says and "Here" in says) or not experiment.claims
    assert experiment.shortened(None) is experiment
    assert max(arm.train.steps for arm in experiment.shortened(7).arms) == 7


@pytest.mark.parametrize("name, timed, seeds", [
    *((name, True, (0, 1, 2)) for name in experiments.NAMES),
    *((name, False, (4,)) for name in ("table1", "table3", "figure4", "distillation"))])
def test_tables_and_pictures_are_made_of_whatever_was_run(name, timed, seeds):
    experiment = experiments.load(name)
    found = fake(experiment, seeds)
    if not timed:
        found = found._replace(speed={})
    rows = experiment.summary(found)
    assert len({tuple(row) for row in rows}) == 1
    assert len(rows) == len(experiment.arms) or not experiment.claims
    assert all(isinstance(word, str) for row in rows for word in row.values())
    made = experiment.draw(found)
    if name == "table1":                                # the notebooks draw all of them
        made.set_dpi(30)
        made.canvas.draw()
    assert any(ax.get_title() for ax in made.axes if ax.lines)


@pytest.mark.parametrize("name", experiments.NAMES)
def test_the_kept_results_are_whole_and_small_and_can_be_drawn(name):
    experiment, found = experiments.load(name), experiments.read(name)
    arms = {arm.name for arm in experiment.arms}
    assert set(found.rows["arm"]) == set(found.curves["arm"]) == arms
    for arm in experiment.arms:
        mine = results.select(found.rows, arm=arm.name)
        assert mine["seed"].tolist() == ([0] if arm.once else list(experiment.kept))
        assert (mine["steps"] == arm.train.steps).all()
    assert bool(found.speed) == (experiment.speed is not None)
    for path in results.KEPT.glob(f"{name}*.csv"):
        assert path.stat().st_size < 150_000, path
    experiment.summary(found)
    assert experiment.draw(found).axes


def test_an_arm_runs_live_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = experiments.run_live("noise", "jitter", steps=2)
    assert outcome.row["done"] == 2 and not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="arm must be one of 'argmax'"):
        experiments.run_live("noise", "louder", steps=2)


def test_arms_are_checked():
    with pytest.raises(ValueError, match="name must be a letter and then"):
        Arm("a/b", MODEL)
    with pytest.raises(ValueError, match="got 'tiny' twice"):
        Experiment("x", (ARM, ARM), None, None)
    with pytest.raises(ValueError, match="needs must name an arm that comes before 'student'"):
        Experiment("x", (STUDENT, ARM), None, None)
    with pytest.raises(ValueError, match="needs must name an arm if begin is given, got ''"):
        Arm("alone", MODEL, begin=copy_embedding)
