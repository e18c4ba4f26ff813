"""Table 2: what it measures, on runs whose answer is known, and that it draws what it is given."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from experiments.tiny import CORPUS, MODEL
from switch_np.experiments import experiment, results, table2
from switch_np.operations.precision import round_to
from switch_np.switch.config import SwitchConfig
from switch_np.training import trainer
from switch_np.training.train_config import TrainConfig

TINY = replace(MODEL, switch=SwitchConfig(num_experts=16))


def run(dtype, advance=experiment.advance):
    train = TrainConfig(steps=4, batch_size=3, seq_len=12, warmup=2, seed=3, dtype=dtype)
    made = trainer.start(TINY, train, CORPUS)
    for _ in range(4):
        advance(made, CORPUS, None)
    return made


def test_float64_differs_from_float64_in_nothing():
    found = table2.evaluate(run("float64"), CORPUS)
    assert (found["router_flips"], found["flips"], found["ties"]) == (0, 0, 0)
    assert found["gate_error"] < 1e-14 and 0 < found["logit"] < 100
    assert found["bits_per_byte"] == trainer.evaluate(run("float64"), CORPUS.held_out[:8193])


def test_a_bfloat16_router_flips_routes_and_a_float32_one_does_not():
    half, selective = (table2.against_float64(run(dtype), CORPUS.held_out)
                       for dtype in ("bfloat16", "selective"))
    assert half["router_flips"] > 0.01 and half["ties"] > 0.01
    assert selective["router_flips"] == selective["ties"] == 0
    assert 2.0 ** -11 < selective["gate_error"] < half["gate_error"] < 2.0 ** -6
    assert selective["flips"] > 0                           # what the router is handed is bfloat16


def test_weights_that_are_bfloat16_too_have_no_bits_below():
    for advance, is_rounded in ((table2.advance_weights_too, True), (experiment.advance, False)):
        w_router = run("bfloat16", advance).params["decoder"]["1"]["switch"]["w_router"]
        assert np.array_equal(round_to(w_router, "bfloat16"), w_router) is is_rounded
        assert w_router.dtype == np.float32 and type(w_router) is np.ndarray


def test_bytes_are_two_a_number_where_nothing_communicated_is_float32():
    train = TrainConfig(batch_size=2, seq_len=16)
    count = 4 * 16 * int(1.25 * 32 / 16) * 8               # 4 ways, E, slots, D; one such layer
    widths = [table2.bytes_per_step(TINY, replace(train, dtype=mode)) / count
              for mode in ("float64", "float32", "bfloat16", "selective", "float16")]
    assert widths == [8, 4, 2, 2, 2]


def invented(seeds=(0, 1), lost=("float16",)):
    """Return results in which every number is made up, and some arms diverged."""
    rows, curves = [], []
    for arm, seed in itertools.product(table2.EXPERIMENT.labels, seeds):
        point = {"arm": arm, "seed": seed, "gate_error": 1e-3, "flips": 0.02, "ties": 0.0,
                 "bits_per_byte": 8.0 if arm in lost else 4 + 0.01 * seed,
                 "router_flips": 0.01 if arm == "bfloat16" else 0.0}
        curves += [point | {"step": step} for step in (75, 150, 300)]
        rows.append(point | {"steps": 300})
    rows[0] |= {"bits_per_byte": np.nan}                          # numbers were no longer finite
    del curves[1:3]
    return results.Results(results.table(rows), results.table(curves), {})


def test_a_run_diverged_if_not_finite_or_close_to_knowing_nothing():
    found = invented()
    ends = table2.at_ends(found, "float16")
    assert ends["diverged"].all() and np.isnan(ends["end"]).all()
    ends = table2.at_ends(found, "float32")
    assert ends["diverged"].tolist() == [True, False] and ends["end"][1] == 4.01
    assert ends["early"].tolist() == [4.0, 4.01]
    words = table2.summary(found)
    assert len(words) == 5 and words[0]["diverged"] == "1 of 2"
    assert [row["paper: neg. log perp."] for row in words] == [
        "-1.718", "-3.780", "-1.716", "", ""]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_picture_says_what_came_out(seeds):
    axes = table2.draw(invented(seeds)).axes
    said = " ".join(" ".join(ax.get_title() for ax in axes).split())
    assert "sends 1.0 % of the tokens" in said and "0.00 %" in said
    assert "1/2 of float32's" in said and "cannot tell" in said
    labels = [label.get_text() for label in axes[1].get_yticklabels()]
    assert f"all float16 ({len(seeds)} of {len(seeds)} diverged)" in labels


def test_the_arms_are_the_modes():
    arms = {arm.name: arm for arm in table2.EXPERIMENT.arms}
    assert list(arms) == list(table2.LABELS) and arms["weights"].train.dtype == "bfloat16"
    assert arms["weights"].advance is not arms["bfloat16"].advance
    assert all(arm.model.switch.num_experts == 32 for arm in arms.values())
