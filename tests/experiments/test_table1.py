"""Table 1: timings in both layouts, the widened model, and who is first."""

from experiments.tiny import MODEL, TRAIN, fake
import pytest

from switch_np.experiments import flops, results, table1
from switch_np.training import corpus as corpora, trainer
from switch_np.transformer.model_config import ModelConfig


@pytest.mark.thorough
def test_table1_times_each_model_in_both_layouts(monkeypatch):
    monkeypatch.setattr(table1, "WIDE", MODEL)
    runs = {name: trainer.start(config, TRAIN, corpora.load())
            for name, (_, config) in table1.models(MODEL).items()}
    rows = table1.time_steps(1, runs)
    assert {run.step for run in runs.values()} == {0}            # what was trained stays as it is
    found = results.table(rows)
    for size in ("toy", "wide"):
        for layout in ("buffers", "packed"):
            ratio = table1.step_ratios(found, size, layout)
            assert set(ratio) == set(table1.models(MODEL)) and ratio["dense"] == 1
    work = {row["arm"]: row["flops_ratio"] for row in rows}
    assert work["switch-2.0"] == work["moe-2.0"] > work["switch-1.25"] > work["switch-1.0"] > 1


def test_switch_plus_costs_what_moe_at_factor_2_costs():
    made = {name: config for name, (_, config) in table1.models(ModelConfig()).items()}
    moe, plus = (flops.step(made[name], 32, 64) for name in ("moe-2.0", "switch-plus"))
    assert abs(plus / moe - 1) < 0.03 and made["switch-plus"].d_model > 32


def test_each_comparison_is_between_the_arms_of_its_words():
    arms = {arm.name: arm for arm in table1.EXPERIMENT.arms}
    dense, longer, moe = (arms[name] for name in ("dense", "dense-time", "moe-time"))
    assert longer.model == dense.model and longer.train.steps > dense.train.steps
    assert moe.model == arms["moe-2.0"].model and moe.train.steps < dense.train.steps
    found = {claim.name: claim.effect(fake(table1.EXPERIMENT)) for claim in table1.CLAIMS}
    assert found["dense"].grade == "holds"           # in `fake` each arm is ahead of those before
    assert found["dense in time"].grade == found["moe in time"].grade == "contradicted"
    assert found["speed packed"].grade == found["speed in buffers"].grade == "contradicted"
