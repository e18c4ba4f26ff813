"""One run: the same numbers however it is stopped and resumed."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.tiny import ARM, STUDENT
from switch_np.experiments import results, runner


def explode(run, corpus, source):
    if run.step == 17:
        raise FloatingPointError("not finite")
    return runner.trainer.advance(run, corpus)


def test_one_seed_gives_one_row_and_another_seed_another():
    first, again, other = (runner.complete(ARM, seed) for seed in (0, 0, 1))
    assert first[:2] == again[:2] and first.seconds > 0
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
    whole = runner.complete(ARM, 0)
    finished = runner.complete(ARM, 0, tmp_path)
    assert finished[:2] == whole[:2]
    again = runner.complete(ARM, 0, tmp_path)                               # done: nothing to do
    assert again[:2] == whole[:2] and 0 <= again.seconds - finished.seconds < 0.1


def test_steps_after_the_checkpoint_are_done_again(tmp_path):
    """Killed between history and checkpoint: the history is ahead."""
    told = []
    runner.complete(ARM, 0, tmp_path, stop=lambda: len(told) == 9, report=told.append)
    checkpoint = (tmp_path / "checkpoint.npz").read_bytes()
    runner.complete(ARM, 0, tmp_path)
    (tmp_path / "checkpoint.npz").write_bytes(checkpoint)
    assert runner.complete(ARM, 0, tmp_path)[:2] == runner.complete(ARM, 0)[:2]


def test_a_checkpoint_of_other_options_or_a_broken_history_is_refused(tmp_path):
    runner.complete(ARM, 0, tmp_path)
    with pytest.raises(ValueError, match="checkpoint must be of arm tiny, seed 1"):
        runner.complete(ARM, 1, tmp_path)
    (tmp_path / "history.json").write_text("{}")
    with pytest.raises(ValueError, match="must be the history of the checkpoint"):
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


def test_an_arm_that_starts_from_another_run_asks_for_it():
    with pytest.raises(ValueError, match="source must be a run of tiny, got None for arm student"):
        runner.complete(STUDENT, 0)
