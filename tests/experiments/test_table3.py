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
    row, curve, _ = runner.complete(arm, 0)
    assert {"stream_0", "stream_2", "experts_1", "added_1"} <= set(row)
    assert "stream_0" not in curve[-1]
    run = trainer.start(arm.model, arm.train, arm.corpus())
    before = table3.measure(run, arm.corpus())
    assert row["stream_0"] != before.stream[0]                 # of the trained run


def test_the_claims_are_about_quality_and_about_spread():
    ends = {(0.1, 0.15): (2.70, 2.71, 2.70), (1.0, 0.15): (2.8, 3.0, 2.9),
            (100.0, 0.15): (4.0, 4.1, 4.0), (0.1, None): (3.2, 3.2, 3.3),
            (1.0, None): (3.1, 3.1, 3.2)}
    found = results.Results(results.table([
        {"arm": table3.name_of(*arm), "seed": seed, "bits_per_byte": nats / np.log(2)}
        for arm, seeds in ends.items() for seed, nats in enumerate(seeds)]), {}, {})
    effects = {claim.name: claim.effect(found) for claim in table3.CLAIMS}
    assert np.isclose(effects["scale"].mean, 2.9 - 8.11 / 3)
    assert np.isclose(effects["steadier"].mean, 0.2 / 3 - 0.004444, atol=1e-5)
    assert [effect.grade for effect in effects.values()] == [
        "cannot tell", "cannot tell", "contradicted", "holds"]
