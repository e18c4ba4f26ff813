"""Table 4: how answers are scored, what fine-tuning starts from, and what is said of it."""

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
    (row, curve, _), run = runner.complete(arm, 0), trained()
    assert {"neg_log_perplexity", "train_neg_log_perplexity", "right"} <= set(curve[0])
    assert row["train_neg_log_perplexity"] == table4.score(run, PAIRS.train[::2])[0]
    assert row["right"] == table4.score(run, PAIRS.held_out)[1]


def test_higher_is_better_and_all_fine_tuning_starts_from_one_model():
    rows = [{"arm": arm, "seed": seed, "neg_log_perplexity": -nats - 0.01 * seed}
            for arm, nats in (("switch-0.05-experts-0.4", 0.40), ("switch-0.05", 0.45))
            for seed in range(3)]
    effect = table4.CLAIMS[0].effect(results.Results(results.table(rows), {}, {}))
    assert np.isclose(effect.mean, 0.05) and effect.grade == "holds"
    assert {arm.once for arm in table4.EXPERIMENT.arms if not arm.needs} == {True}
    assert not any(arm.once for arm in table4.EXPERIMENT.arms if arm.needs)
