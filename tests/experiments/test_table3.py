"""Table 3: activations by depth, and what is said of scales, rates and seeds."""

import numpy as np
import pytest

from switch_np import model
from switch_np.experiments import activation_sizes, results, runner, table3
from switch_np.switch.config import SwitchConfig
from switch_np.training import objective
from switch_np.training.trainer import TrainConfig
from switch_np.transformer import attention, embedding, norm, position_bias
from switch_np.transformer.model_config import ModelConfig

TINY = ModelConfig(d_model=8, d_ff=16, num_heads=2, d_kv=4, num_layers=2, init_scale=1.0,
                   switch=SwitchConfig(num_experts=3, capacity_factor=None))
IDS = np.random.default_rng(1).integers(0, 256, (3, 10))


def test_the_first_block_is_measured_as_it_is_computed_by_hand():
    params = model.init(np.random.default_rng(0), TINY)
    found = activation_sizes.by_depth(params, IDS, TINY)
    x = embedding.forward(params["embedding"]["table"], IDS)
    assert np.isclose(found.stream[0], np.sqrt((x ** 2).mean()), rtol=1e-12)
    block = params["decoder"]["0"]
    bias, _ = position_bias.forward(params["decoder"]["position_bias"], 10, 10, 128, False, 0)
    normed, _ = norm.forward(block["attention_norm"], x)
    x = x + attention.forward(block["attention"], normed, normed,
                              bias + attention.causal_mask(10, 10, 0))[0]
    normed, _ = norm.forward(block["feed_forward_norm"], x)
    weights = block["feed_forward"]
    x = x + np.maximum(normed @ weights["w_in"], 0) @ weights["w_out"]
    assert np.isclose(found.stream[1], np.sqrt((x ** 2).mean()), rtol=1e-12)
    assert list(found.experts) == list(found.added) == [1] and len(found.stream) == 3


def test_what_the_experts_add_is_their_output_times_the_gate():
    params = model.init(np.random.default_rng(0), TINY)
    found = activation_sizes.by_depth(params, IDS, TINY)
    _, (out,), _ = model.forward(params, IDS, TINY)
    y = out.y.reshape(30, 8) / out.gates                       # nothing is dropped
    assert np.isclose(found.experts[1], activation_sizes.rms(y), rtol=1e-12)
    assert np.isclose(found.added[1], activation_sizes.rms(out.y))
    assert found.added[1] < found.experts[1]


def test_two_weights_in_a_row_grow_like_the_scale_and_one_like_its_root():
    configs = [table3.config(scale) for scale in (0.1, 1.0)]
    small, large = (activation_sizes.by_depth(
        model.init(np.random.default_rng(0), config), IDS, config) for config in configs)
    assert np.isclose(large.stream[0] / small.stream[0], 10 ** 0.5)
    assert np.isclose(large.experts[1] / small.experts[1], 10, rtol=0.2)
    assert small.stream[-1] / small.stream[0] < large.stream[-1] / large.stream[0]


def test_a_run_s_row_holds_its_activations_and_its_curve_does_not(monkeypatch):
    arm = table3.Arm("tiny", TINY, TrainConfig(steps=9, batch_size=2, seq_len=12, warmup=2),
                     conclude=table3.conclude, corpus=table3.toy.text)
    row, curve = runner.complete(arm, 0)
    assert {"stream_0", "stream_2", "experts_1", "added_1"} <= set(row)
    assert "stream_0" not in curve[-1]
    run = table3.trainer.start(arm.model, arm.train, arm.corpus())
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
    words = " ".join(table3.findings(found))
    for part in ("0.33 nats ahead of scale 1", "spread less", "(0.15 and 0.03)",
                 "With AdamW scale 0.1 is 0.10 nats behind scale 1", "4.00 nats at best"):
        assert part in words


def test_a_scale_that_is_behind_is_said_to_be():
    found = found_with({(0.1, 0.15): 3.0, (1.0, 0.15): 2.7, (100.0, 0.15): 4.0})
    assert "At rate 0.15 scale 0.1 is 0.27 nats behind scale 1" in table3.findings(found)[0]


@pytest.mark.parametrize("s", [1.0, 10.0])
def test_the_review_s_formula_is_the_paper_s_with_the_square(s):
    n = 64
    assert np.isclose(s / np.sqrt(n), np.sqrt(s ** 2 / n))
    assert {1.0: table3.LARGE, 10.0: table3.REVIEW}[s] == s ** 2


def test_the_probe_is_the_first_windows_of_what_is_held_out():
    corpus = table3.toy.text()
    batches = list(objective.held_out(corpus.held_out, 64, 64))
    assert len(batches) == 1 and batches[0].inputs.shape == (64, 64)
