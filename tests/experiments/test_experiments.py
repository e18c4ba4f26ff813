"""The experiments' own parts: losses, counts, timings, findings, tables and pictures."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from switch_np import experiments, model
from switch_np.experiments import (
    distillation, figure4, flops, results, soft_cross_entropy, speed, table1, toy)
from switch_np.operations import gradcheck
from switch_np.operations import tree
from switch_np.switch.config import SwitchConfig
from switch_np.training import corpus as corpora, trainer
from switch_np.training.adafactor import Adafactor
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import TrainConfig
from switch_np.transformer.model_config import ModelConfig

TEXT = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 60, np.uint8)
CORPUS = Corpus(TEXT[:2000], TEXT[2000:])
TINY = ModelConfig(d_model=8, d_ff=16, num_heads=2, d_kv=4, num_layers=2,
                   switch=SwitchConfig(num_experts=4))
TRAIN = TrainConfig(steps=9, batch_size=3, seq_len=12, warmup=2)

MORE = {"table2": ("router_flips", "ties", "gate_error", "flips", "logit"),
        "table3": (*(f"stream_{n}" for n in range(13)), *(
            f"{part}_{n}" for part in ("experts", "added") for n in range(1, 12, 2))),
        "table4": ("neg_log_perplexity", "right", "train_neg_log_perplexity")}


def fake(experiment, seeds=(0, 1, 2)):
    """Results of the right form: arms in the order of their quality, dense the worst."""
    rng, rows, curves = np.random.default_rng(0), [], []
    more = dict.fromkeys(MORE.get(experiment.name, ()), 0.5)
    curved = more if experiment.name == "table4" else {}
    for place, arm in enumerate(experiment.arms):
        for seed in seeds:
            bits = 2.5 - 0.05 * place + 0.01 * rng.random()
            named = {"arm": arm.name, "seed": seed}
            rows.append({**named, "steps": 50, "done": 50, "params": 1000 * 2 ** place,
                         "train_bits": bits, "dropped": 0.1, "bits_per_byte": bits, **more})
            curves += [{**named, "step": step, "train_bits": bits, "dropped": 0.1,
                        "bits_per_byte": bits + 5 / step - 0.1, **curved}
                       for step in range(10, 51, 10)]
    return results.Results(results.table(rows), results.table(curves), fake_speed(experiment))


def fake_speed(experiment):
    rows = []
    for place, arm in enumerate(experiment.arms if experiment.speed else ()):
        for layout in ("buffers", "packed") if place else ("both",):
            row = {"layout": layout, "arm": arm.name, "milliseconds": 1.0,
                   "ratio": 1 + 0.1 * place, "low": 1.0, "high": 2.0, "flops_ratio": 1.0}
            rows += [{"size": size, **row} for size in ("toy", "wide")] if (
                experiment.name == "table1") else [row]
    return results.table(rows)


@pytest.mark.parametrize("name, timed, seeds", [
    *((name, True, (0, 1, 2)) for name in experiments.NAMES),
    *((name, False, (4,)) for name in ("table1", "table3", "figure4", "distillation"))])
def test_tables_and_pictures_are_made_of_whatever_was_run(name, timed, seeds):
    experiment = experiments.load(name)
    found = fake(experiment, seeds)
    if not timed:
        found = found._replace(speed={})
    rows = experiment.summary(found)
    assert len(rows) == len(experiment.arms) and len({tuple(row) for row in rows}) == 1
    assert all(isinstance(word, str) for row in rows for word in row.values())
    made = experiment.draw(found)
    if timed:
        made.canvas.draw()
    titles = [ax.get_title() for ax in made.axes if ax.lines]
    assert titles and any(titles)


@pytest.mark.parametrize("name", experiments.NAMES)
def test_the_kept_results_are_whole_and_small_and_can_be_drawn(name):
    if not (results.KEPT / f"{name}.csv").exists():
        pytest.skip(f"no results of {name} are kept yet")
    experiment, found = experiments.load(name), experiments.read(name)
    arms = {arm.name for arm in experiment.arms}
    assert set(found.rows["arm"]) == set(found.curves["arm"]) == arms
    for arm in experiment.arms:
        mine = results.select(found.rows, arm=arm.name)
        assert mine["seed"].tolist() == list(experiment.seeds)
        assert (mine["steps"] == arm.train.steps).all()
    assert bool(found.speed) == (experiment.speed is not None)
    for path in results.KEPT.glob(f"{name}*.csv"):
        assert path.stat().st_size < 120_000, path
    experiment.summary(found)
    assert experiment.draw(found).axes


# Distillation.

def test_soft_cross_entropy_against_the_complex_step():
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((5, 7)), rng.dirichlet(np.ones(7), 5)
    target[2] *= 0.5                                  # need not sum to 1
    gradcheck.check_backward(
        lambda inputs: soft_cross_entropy.forward(inputs["logits"], target),
        lambda d_loss, cache: {"logits": soft_cross_entropy.backward(d_loss, cache)},
        {"logits": logits}, rng)


@pytest.mark.parametrize("options", [{}, {"optimizer": Adafactor()}, {"dtype": "bfloat16"}])
def test_a_step_with_no_share_of_the_teacher_is_the_trainer_s(options):
    train = replace(TRAIN, **options)
    teacher = trainer.start(TINY, train, CORPUS)
    for share, same in ((0.0, True), (0.25, False)):
        mine, theirs = (trainer.start(toy.dense(TINY), train, CORPUS) for _ in range(2))
        for _ in range(3):
            loss, norm = distillation.advance(mine, CORPUS, teacher, share)
            want, want_norm = trainer.advance(theirs, CORPUS)
        if same:
            assert (mine.step, norm, loss.cross_entropy) == (3, want_norm, want.cross_entropy)
        pairs = zip(tree.flatten(mine.params).values(), tree.flatten(theirs.params).values())
        assert all((one == other).all() for one, other in pairs) is same
        assert mine.seconds > 0


def test_a_student_that_diverges_says_so_and_stays_as_it_was():
    teacher, student = (trainer.start(TINY, TRAIN, CORPUS) for _ in range(2))
    student.params["decoder"]["0"]["feed_forward"]["w_in"][0, 0] = np.nan
    before = tree.apply(np.copy, student.params)
    with pytest.raises(FloatingPointError, match="not finite at step 1"):
        distillation.advance(student, CORPUS, teacher, 0.25)
    tree.apply(np.testing.assert_array_equal, student.params, before)


def test_the_mixed_loss_is_its_two_parts():
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    teacher = rng.dirichlet(np.ones(5), 6)
    parts = [soft_cross_entropy.forward(logits, soft_cross_entropy.mixed_targets(
        targets, teacher, share))[0] for share in (0.0, 1.0, 0.25)]
    np.testing.assert_allclose(parts[2], 0.75 * parts[0] + 0.25 * parts[1])


def test_a_student_copies_all_but_the_experts():
    teacher = trainer.start(TINY, replace(TRAIN, seed=1), CORPUS)
    student, fresh = (trainer.start(toy.dense(TINY), TRAIN, CORPUS) for _ in range(2))
    distillation.copy_weights(student, teacher)
    taught, before = tree.flatten(teacher.params), tree.flatten(fresh.params)
    for name, value in tree.flatten(student.params).items():
        source = before if name.startswith("decoder.1.feed_forward.") else taught
        np.testing.assert_array_equal(value, source[name], name)
    student.params["embedding"]["table"][:] = 0
    assert teacher.params["embedding"]["table"].any()           # a copy, not the array itself


# Operations and timings.

class Counted(np.ndarray):
    """An array whose products are counted."""

    operations = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(value) for value in inputs]
        if ufunc is np.matmul:
            a, b = plain
            Counted.operations += 2 * a.size * b.shape[-1]
        into = {} if out is None else {"out": tuple(np.asarray(value) for value in out)}
        found = getattr(ufunc, method)(*plain, **into, **options)
        return found.view(Counted) if isinstance(found, np.ndarray) else found


@pytest.mark.parametrize("options", [
    dict(), dict(top_k=2, capacity_factor=1.0), dict(capacity_factor=2.0)])
@pytest.mark.parametrize("every", [0, 1, 2])
def test_operations_are_those_of_the_products(options, every):
    config = replace(TINY, num_layers=3, switch_every=every, switch=SwitchConfig(
        num_experts=2, layout="buffers", **options))
    params = model.init(np.random.default_rng(0), config)
    ids = np.random.default_rng(1).integers(0, 256, (4, 10))
    counted = tree.apply(lambda value: value.view(Counted), params)
    Counted.operations = 0
    model.forward(counted, ids, config)
    assert Counted.operations == flops.forward(config, 4, 10)
    assert flops.step(config, 4, 10) == 3 * flops.forward(config, 4, 10, training=True)


def test_rows_without_a_limit_are_the_choices():
    config = replace(TINY, switch=SwitchConfig(num_experts=4, top_k=2, capacity_factor=None))
    assert flops.expert_rows(config, 100, training=True) == 200


def test_a_model_twice_the_work_takes_longer_whatever_the_order():
    small, large = (partial(np.linalg.svd, np.random.default_rng(0).random((n, n)))
                    for n in (30, 90))
    for steps in ({"small": small, "large": large}, {"large": large, "small": small}):
        found = speed.compare(steps, "small", 11)
        assert found["small"][1:] == (1, 1, 1)
        assert 2 < found["large"].low <= found["large"].ratio <= found["large"].high
    with pytest.raises(ValueError, match="base must be one of 'small', got 'none'"):
        speed.compare({"small": small}, "none", 3)


def test_table1_times_each_model_in_both_layouts(monkeypatch):
    monkeypatch.setattr(table1, "WIDE", TINY)
    runs = {name: trainer.start(config, TRAIN, corpora.load())
            for name, (_, config) in table1.models(TINY).items()}
    rows = table1.time_steps(1, runs)
    assert {run.step for run in runs.values()} == {0}            # what was trained stays as it is
    found = results.table(rows)
    for size in ("toy", "wide"):
        for layout in ("buffers", "packed"):
            ratio = table1.step_ratios(found, size, layout)
            assert set(ratio) == set(table1.PAPER) and ratio["dense"] == 1
    work = {row["arm"]: row["flops_ratio"] for row in rows}
    assert work["switch-2.0"] == work["moe-2.0"] > work["switch-1.25"] > work["switch-1.0"] > 1
    assert set(table1.faster(found, "wide")) == {
        "Switch than MoE at 2.0", "Switch than MoE at 1.25", "Switch than MoE at 1.0",
        "Switch at 1.25 than at 2.0", "Switch at 1.0 than at 1.25"}


def test_switch_plus_costs_what_moe_at_factor_2_costs():
    made = {name: config for name, (_, config) in table1.models(ModelConfig()).items()}
    moe, plus = (flops.step(made[name], 32, 64) for name in ("moe-2.0", "switch-plus"))
    assert abs(plus / moe - 1) < 0.03 and made["switch-plus"].d_model > 32


def test_table1_finds_who_is_first_and_who_is_faster():
    found = fake(table1.EXPERIMENT)
    reached = table1.steps_to_threshold(found)
    assert table1.threshold(found) == found.rows["bits_per_byte"].max()
    assert 40 < reached["dense"].max() <= 50 and reached["switch-plus"].max() < 40
    shown = table1.faster(found.speed, "wide")
    assert shown["Switch than MoE at 2.0"] is False              # later arms are slower in `fake`
    slow = found.speed | {"ratio": -found.speed["ratio"]}
    assert all(table1.faster(slow, "wide").values())


def test_figure4_finds_where_more_experts_stop_to_help():
    found = fake(figure4.EXPERIMENT)
    assert figure4.falls_to(found) == 64
    bits = found.rows["bits_per_byte"].copy()
    bits[found.rows["arm"] == "experts-16"] += 0.5
    worse = found._replace(rows=found.rows | {"bits_per_byte": bits})
    assert figure4.falls_to(worse) == 8
    assert figure4.steps_to_dense(found)["experts-64"] < figure4.steps_to_dense(found)["experts-1"]
    arms = {arm.name: arm.model for arm in figure4.EXPERIMENT.arms}
    assert arms["experts-64-without-N"].balance_coef == 0.01 / 64
    assert arms["experts-64"].balance_coef == 0.01 and arms["experts-1"].switch_layers == ()
