"""Several processes: the same numbers, and all stop together."""

from dataclasses import replace

import pytest

from experiments.tiny import ARM, STUDENT, TRAIN
from switch_np.experiments import pool
from switch_np.training import trainer


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
    assert [outcome[:2] for outcome in found[1]] == [outcome[:2] for outcome in found[2]]
    assert [outcome.row["arm"] for outcome in found[1]] == ["tiny", "student"]


def test_what_goes_wrong_in_a_process_is_said_here(tmp_path):
    broken = [pool.Job(ARM, 0, tmp_path / "a", tmp_path / "nowhere")]
    with pytest.raises(ValueError, match=r"seed 0: .*checkpoint\.npz must be a readable file"):
        pool.run_all(broken, 2, lambda: False, lambda *_: None, lambda *_: None)


def test_a_stop_ends_all_processes_and_saves(tmp_path):
    slow = replace(ARM, train=replace(TRAIN, steps=4000))
    asked = []
    finished = pool.run_all(
        [pool.Job(slow, seed, tmp_path / str(seed), None) for seed in (0, 1)], 2,
        lambda: bool(asked), lambda job, step: asked.append(step), lambda *_: None)
    assert not finished
    done = [trainer.load(tmp_path / seed / "checkpoint.npz").step for seed in "01"]
    assert 0 < max(done) < 4000
