"""Table 1: timings in both layouts, the widened model, and who is first."""

from experiments.tiny import MODEL, TRAIN, fake
from switch_np.experiments import flops, results, table1
from switch_np.training import corpus as corpora, trainer
from switch_np.transformer.model_config import ModelConfig


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
