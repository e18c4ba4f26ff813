"""Memory: each fact has its pair, and what is trained on is what is measured."""

from dataclasses import replace

import numpy as np

from switch_np.experiments import memory, runner


def test_each_fact_has_a_pair_of_its_own():
    corpus = memory.table()
    pairs = memory.pairs_of(np.arange(len(corpus.train)))
    assert len(np.unique(pairs, axis=0)) == len(corpus.train) == 128 * 128
    assert pairs[:, 0].max() < 128 <= pairs[:, 1].min() and pairs.max() < memory.TOY.vocab_size
    assert len(np.unique(corpus.train)) == 256 and corpus.held_out is corpus.train


def test_a_run_learns_some_facts_and_begins_with_knowing_none():
    arm = memory.arm("short", "experts-4", 0.03, steps=30)
    short = replace(arm, train=replace(arm.train, warmup=5))
    first, *_, last = runner.complete(short, 0).curve
    assert last["nats"] < first["nats"] < 1.02 * np.log(256) and last["dropped"] < 0.2


def test_equal_time_is_made_of_arms_at_their_own_rates():
    arms = {arm.name: arm for arm in memory.EXPERIMENT.arms}
    for name, (model, steps) in memory.EQUAL_TIME.items():
        assert arms[name].model == arms[model].model and arms[name].train.steps == steps
        assert arms[name].train.learning_rate == memory.BEST[model]
