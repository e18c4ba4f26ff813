"""Exact resume, fine-tuning, and what stops a run."""

from dataclasses import replace

import numpy as np
import pytest
from training.small_run import CORPUS, MODEL, TRAIN

from switch_np.conventions.table import Conventions
from switch_np.generate import generate
from switch_np.operations import tree
from switch_np.training import optimizer, trainer
from switch_np.training.adafactor import Adafactor
from switch_np.training.corpus import Corpus


def advance(run, steps):
    return [(float(loss.total), norm, [plan.load.tolist() for plan in loss.plans])
            for loss, norm in (trainer.advance(run, CORPUS) for _ in range(steps))]


@pytest.mark.parametrize("options", [optimizer.AdamW(), Adafactor(),
                                     Adafactor(beta_1=0.9, weight_decay=0.1)])
def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path, options):
    train = replace(TRAIN, optimizer=options)
    whole = trainer.start(MODEL, train, CORPUS)
    rows = advance(whole, 8)
    for stop in (1, 3, 7):
        first = trainer.start(MODEL, train, CORPUS)
        found = advance(first, stop)
        trainer.save(first, tmp_path / "checkpoint.npz")
        second = trainer.load(tmp_path / "checkpoint.npz", CORPUS)
        assert found + advance(second, 8 - stop) == rows
        tree.apply(np.testing.assert_array_equal, whole.params, second.params)
        tree.apply(np.testing.assert_array_equal, whole.moments, second.moments)
    assert trainer.evaluate(whole, CORPUS.held_out) == trainer.evaluate(second, CORPUS.held_out)


def test_fine_tuning_starts_from_a_copy_with_dropouts_of_its_own():
    first = trainer.start(MODEL, TRAIN, CORPUS)
    advance(first, 2)
    before = tree.apply(np.copy, first.params)
    tuned = replace(MODEL, dropout=0.3, switch=replace(MODEL.switch, expert_dropout=0.0))
    second = trainer.start(tuned, TRAIN, CORPUS, params=first.params)
    tree.apply(np.testing.assert_array_equal, second.params, before)
    advance(second, 2)
    tree.apply(np.testing.assert_array_equal, first.params, before)
    with pytest.raises(ValueError, match="must have shape"):
        trainer.start(replace(MODEL, d_ff=17), TRAIN, CORPUS, params=first.params)


def test_each_step_moves_the_selection_biases_against_its_loads():
    chosen = replace(MODEL.switch, sample=False, conventions=Conventions(select_bias=True))
    for options in (optimizer.AdamW(), Adafactor(beta_1=0.9, weight_decay=0.1)):
        run = trainer.start(replace(MODEL, switch=chosen),
                            replace(TRAIN, bias_rate=0.25, optimizer=options), CORPUS)
        loads = np.array([plans[0] for _, _, plans in advance(run, 4)]).sum(axis=1)
        wanted = 0.25 * np.sign(loads.mean(axis=1, keepdims=True) - loads).sum(axis=0)
        assert wanted.any()
        np.testing.assert_array_equal(run.params["decoder"]["1"]["switch"]["select_bias"], wanted)


def test_the_biases_of_layers_in_attention_move_too():
    chosen = replace(MODEL.switch, sample=False, conventions=Conventions(select_bias=True))
    run = trainer.start(replace(MODEL, switch_attention=True, switch=chosen),
                        replace(TRAIN, bias_rate=0.25), CORPUS)
    loss, _ = trainer.advance(run, CORPUS)
    block = run.params["decoder"]["1"]
    for plan, switch in zip(loss.plans, (block["attention"]["switch_q"],
                                         block["attention"]["switch_kv"], block["switch"])):
        load_E = plan.load.sum(axis=0)
        assert np.ptp(load_E) > 0
        np.testing.assert_array_equal(switch["select_bias"],
                                      0.25 * np.sign(load_E.mean() - load_E))


def test_a_rate_without_biases_is_refused():
    with pytest.raises(ValueError, match=r"bias_rate must be 0 with select_bias=False, got 0\.25"):
        trainer.start(MODEL, replace(TRAIN, bias_rate=0.25), CORPUS)


def test_another_seed_is_another_run():
    one = trainer.start(MODEL, TRAIN, CORPUS)
    two = trainer.start(MODEL, replace(TRAIN, seed=1), CORPUS)
    assert advance(one, 1) != advance(two, 1)


def test_resuming_on_another_text_is_refused(tmp_path):
    trainer.save(trainer.start(MODEL, TRAIN, CORPUS), tmp_path / "c.npz")
    other = Corpus(CORPUS.train[1:], CORPUS.held_out)
    with pytest.raises(ValueError, match="text must be the one that the run began with"):
        trainer.load(tmp_path / "c.npz", other)


def test_divergence_is_reported_and_leaves_the_run_as_it_was():
    run = trainer.start(MODEL, TRAIN, CORPUS)
    run.params["decoder"]["0"]["feed_forward"]["w_in"][0, 0] = np.nan
    before = tree.apply(np.copy, run.params)
    with pytest.raises(FloatingPointError, match="not finite at step 1: try a lower learning rat"):
        trainer.advance(run, CORPUS)
    assert run.step == 0
    tree.apply(np.testing.assert_array_equal, run.params, before)


def poisoned(run, monkeypatch):
    """Let the gradient of one parameter be NaN."""
    right = trainer.model.loss_and_grads

    def wrong(*args, **options):
        loss, grads = right(*args, **options)
        grads["decoder"]["1"]["switch"]["w_in"][0, 0] = np.nan
        return loss, grads

    monkeypatch.setattr(trainer.model, "loss_and_grads", wrong)


def test_a_gradient_that_is_nan_is_named_and_the_run_can_go_on_as_if_nothing_was(monkeypatch):
    run, whole = (trainer.start(MODEL, TRAIN, CORPUS) for _ in range(2))
    advance(run, 2)
    with monkeypatch.context() as patch:
        poisoned(run, patch)
        with pytest.raises(FloatingPointError, match=r"step 3.*grads\['decoder.1.switch.w_in'\]"):
            trainer.advance(run, CORPUS)
    assert advance(run, 2) == advance(whole, 4)[2:]


def test_parameters_that_overflow_are_not_saved_over_good_ones(tmp_path):
    run = trainer.start(MODEL, replace(TRAIN, learning_rate=1e300), CORPUS)
    trainer.save(run, tmp_path / "c.npz")
    trainer.advance(run, CORPUS)
    for call in (lambda: trainer.save(run, tmp_path / "c.npz"),
                 lambda: trainer.evaluate(run, CORPUS.held_out)):
        with pytest.raises(FloatingPointError, match=r"not finite at step 1: .* must be finite"):
            call()
    assert trainer.load(tmp_path / "c.npz").step == 0


def test_a_wrong_call_within_a_step_is_no_matter_of_the_learning_rate(monkeypatch):
    run = trainer.start(MODEL, TRAIN, CORPUS)
    with pytest.raises(ValueError, match="text must have at least 13 bytes, got 5"):
        trainer.advance(run, Corpus(CORPUS.train[:5], CORPUS.held_out))
    with pytest.raises(ValueError, match="must lie in"):
        trainer.update(run, 0.0, lambda params: trainer.model.loss_and_grads(
            params, trainer.model.Batch(*np.full((2, 1, 2), 999)), MODEL, rng=run.noise_rng,
            training=True))


@pytest.mark.parametrize("task, part, words", [
    ("lm", CORPUS.held_out[:5], "text must have at least 13 bytes, got 5"),
    ("span", CORPUS.held_out[:5], "text must have at least 12 bytes, got 5"),
    ("pairs", (), "pairs must hold at least one, got none")])
def test_too_short_a_text_is_not_evaluated(task, part, words):
    run = trainer.start(MODEL, TRAIN, CORPUS)
    run.config = replace(TRAIN, task=task)
    with pytest.raises(ValueError, match=words):
        trainer.evaluate(run, part)


def test_parameters_that_are_not_finite_are_named(tmp_path, monkeypatch):
    run = trainer.start(MODEL, TRAIN, CORPUS)
    run.params["decoder"]["1"]["switch"]["w_out"][0, 0, 0] = np.nan
    words = r"params\['decoder.1.switch.w_out'\] must be finite, got nan at \(0, 0, 0\)"
    with pytest.raises(ValueError, match=words):
        trainer.start(MODEL, TRAIN, CORPUS, params=run.params)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "check_params", lambda *_, **options: None)
        trainer.save(run, tmp_path / "c.npz")
    with pytest.raises(ValueError, match=rf"c\.npz must be .*: {words}"):
        trainer.load(tmp_path / "c.npz")
    with pytest.raises(ValueError, match=words):
        generate(run.params, MODEL, np.array([1]), 1, np.random.default_rng(0))
