"""Table 3: what a run's row holds, and what is said of scales, rates and seeds."""

from dataclasses import replace

import numpy as np

from experiments.tiny import MODEL, TRAIN
from switch_np.experiments import results, runner, table3, toy
from switch_np.training import trainer

TINY = replace(MODEL, init_scale=1.0)


def test_a_run_s_row_holds_its_activations_and_its_curve_does_not():
    arm = table3.Arm("tiny", TINY, replace(TRAIN, steps=9), conclude=table3.conclude,
                     corpus=toy.text)
    row, curve = runner.complete(arm, 0)
    assert {"stream_0", "stream_2", "experts_1", "added_1"} <= set(row)
    assert "stream_0" not in curve[-1]
    run = trainer.start(arm.model, arm.train, arm.corpus())
    before = table3.measure(run, arm.corpus())
    assert row["stream_0"] != before.stream[0]                 # of the trained run


def found_with(bits):
    """Results with these final bits per byte by scale and rate, 0.1 apart over two seeds."""
    rows = [{"arm": table3.name_of(scale, rate), "seed": seed,
             "bits_per_byte": value / np.log(2) + 0.1 * seed * (scale == 1.0)}
            for (scale, rate), value in bits.items() for seed in (0, 1)]
    rows += [{"arm": f"scale-{scale:g}-adamw", "seed": seed, "bits_per_byte": value / np.log(2)}
             for scale, value in ((0.1, 3.2), (1.0, 3.1)) for seed in (0, 1)]
    return results.Results(results.table(rows), {}, {})


def test_the_verdict_is_made_from_the_numbers():
    found = found_with({(0.1, 0.03): 2.9, (0.1, 0.15): 2.7, (1.0, 0.03): 2.8, (1.0, 0.15): 3.0,
                        (100.0, 0.15): 4.0})
    says = table3.leads(found)
    half = 0.05 * np.log(2)
    assert np.isclose(says["lead"], 0.3 + half) and np.isclose(says["lead_at_best"], 0.1 + half)
    assert says["std_small"] == 0 and np.isclose(says["std_large"], 0.1 * np.log(2) / 2 ** 0.5)
    assert (table3.best_rate(found, 0.1), table3.best_rate(found, 1.0)) == (0.15, 0.03)
    for part, words in zip(("0.33 nats ahead of scale 1", "spread less", "(0.15 and 0.03)",
                            "With AdamW scale 0.1 is 0.10 nats behind scale 1",
                            "4.00 nats at best"), table3.findings(found), strict=True):
        assert part in words
    behind = found_with({(0.1, 0.15): 3.0, (1.0, 0.15): 2.7, (100.0, 0.15): 4.0})
    assert "At rate 0.15 scale 0.1 is 0.27 nats behind scale 1" in table3.findings(behind)[0]
    level = found_with({(0.1, 0.15): 2.7, (1.0, 0.15): 2.7 - half, (100.0, 0.15): 4.0})
    assert "scale 0.1 is level with scale 1" in table3.findings(level)[0]
