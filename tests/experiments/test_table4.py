"""Table 4: how answers are scored, what fine-tuning starts from, and what is said of it."""

import itertools
from dataclasses import replace

import numpy as np

from experiments.tiny import CORPUS, MODEL
from switch_np import generate
from switch_np.experiments import results, runner, table4, toy
from switch_np.operations import tree
from switch_np.switch.config import SwitchConfig
from switch_np.training import trainer
from switch_np.training.pairs import Pair, PairCorpus
from switch_np.training.train_config import TrainConfig
from switch_np.training.vocabulary import END, VOCAB_SIZE

TINY = replace(MODEL, vocab_size=VOCAB_SIZE,
               switch=SwitchConfig(num_experts=3, capacity_factor=None))
PAIRS = PairCorpus(tuple(Pair(b"x" * n, b"ab"[:1 + n % 2]) for n in range(1, 9)),
                   tuple(Pair(b"y" * n, b"ab"[:1 + n % 2]) for n in range(1, 7)))
TRAIN = TrainConfig(task="pairs", steps=30, batch_size=4, seq_len=24, warmup=3)


def trained():
    run = trainer.start(TINY, TRAIN, PAIRS)
    while run.step < TRAIN.steps:
        trainer.advance(run, PAIRS)
    return run


def test_the_score_is_the_trainer_s_and_what_decoding_without_chance_gives():
    run = trained()
    quality, right = table4.score(run, PAIRS.held_out)
    assert np.isclose(quality, trainer.evaluate(run, PAIRS.held_out), rtol=1e-6)
    answers = []
    for pair in PAIRS.held_out:
        prompt = np.array([*pair.source, END])
        ids = generate.generate(run.params, TINY, prompt, len(pair.target) + 1,
                                np.random.default_rng(0), temperature=0)
        answers.append(ids[len(prompt):].tolist() == [*pair.target, END])
    assert right == np.mean(answers) and 0 < right < 1


def test_fine_tuning_begins_with_a_copy_of_what_was_pretrained():
    source = trainer.start(TINY, TrainConfig(steps=3, batch_size=2, seq_len=16, warmup=1), CORPUS)
    run = trainer.start(replace(TINY, dropout=0.1), replace(TRAIN, seed=1), PAIRS)
    table4.EXPERIMENT.arms[-1].begin(run, source)
    before = tree.apply(np.copy, source.params)
    tree.apply(np.testing.assert_array_equal, run.params, source.params)
    trainer.advance(run, PAIRS)
    assert (run.params["embedding"]["table"] != before["embedding"]["table"]).any()
    tree.apply(np.testing.assert_array_equal, source.params, before)


def test_each_arm_has_the_rates_of_its_name_and_the_model_it_was_pretrained_as():
    arms = {arm.name: arm for arm in table4.EXPERIMENT.arms}
    for name, (dense, rate, expert_rate) in table4.SETTINGS.items():
        config = arms[name].model
        assert (config.dropout, config.switch.expert_dropout) == (rate, expert_rate)
        before = arms[arms[name].needs].model
        assert (before.switch_layers == ()) == dense == name.startswith("dense")
        assert replace(toy.switch(config, expert_dropout=0.0), dropout=0.0) == before
    assert set(table4.PAPER) < set(table4.SETTINGS)


def test_a_run_s_curve_has_both_parts_of_the_pairs():
    arm = table4.Arm("tiny", TINY, TRAIN, evaluate=table4.measure, corpus=lambda: PAIRS)
    (row, curve), run = runner.complete(arm, 0), trained()
    assert {"neg_log_perplexity", "train_neg_log_perplexity", "right"} <= set(curve[0])
    assert row["train_neg_log_perplexity"] == table4.score(run, PAIRS.train[::2])[0]
    assert row["right"] == table4.score(run, PAIRS.held_out)[1]


def invented():
    """Results of three seeds: at steps 10 to 40, with a best point at 20 where no dropout is."""
    ends = {"switch-0": -0.5, "dense-0": -0.6, "switch-0-experts-0.4": -0.45, "switch-0.1": -0.4,
            "switch-0.2": -0.5, "switch-0.3": -0.7, "switch-0.1-experts-0.4": -0.38,
            "dense-0.1": -0.39}
    rows, curves = [], []
    for (arm, end), seed in itertools.product(ends.items(), range(3)):
        shift = 0.01 * seed - 0.03 * (arm == "switch-0.1-experts-0.4" and seed == 2)
        row = {"arm": arm, "seed": seed, "neg_log_perplexity": end + shift}
        path = [-0.8, end + 0.1 * ("-0" in arm and arm[-3:] != "0.1"), end, end]
        curves += [row | {"step": 10 * n, "neg_log_perplexity": value + shift}
                   for n, value in enumerate(path, 1)]
        rows.append(row | {"steps": 40, "train_neg_log_perplexity": end / 2, "right": 0.5})
    return results.Results(results.table(rows), results.table(curves), {})


def test_the_words_are_made_from_the_numbers_and_leads_counted_seed_by_seed():
    found = invented()
    nats, seeds = table4.lead(found, "switch-0.1-experts-0.4", "switch-0.1")
    assert np.isclose(nats, 0.02 - 0.03 / 3) and seeds == 2
    words = table4.findings(found)
    assert "0.010 nats ahead of 0.1 everywhere (2 of 3 seeds ahead)" in words[0]
    assert "0.300 nats behind 0.1 (0 of 3 seeds ahead)" in words[1]
    assert "best at step 20 of 40 (dense: 20); since its best point a run has lost 0.10" in words[2]
    assert "0.050 nats ahead of none" in words[3] and "behind dense" in words[4]
    assert table4.best_step(found.curves, "switch-0") == 20
    np.testing.assert_allclose(table4.at_best(found.curves, "switch-0"), [-0.4, -0.39, -0.38])
    assert np.isclose(table4.overfit(found, "switch-0.3"), 0.35 - 0.01)
