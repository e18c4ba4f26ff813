"""The benchmarks measure what they say, and the peers compute the same."""

import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import switch_np as snp
from benchmarks import bare_products, breakdown, compare, problems, subjects, timing
from benchmarks.problems import LayerSize
from benchmarks.subjects import Entry
from switch_np.experiments import flops

TINY = {"tiny": problems.LAYERS["tiny"]}
BARE_AND_OURS = subjects.LAYER[:2]


@pytest.mark.parametrize("num_experts, num_threads", [(8, 1), (8, 2), (1, 2)])
def test_the_bare_products_are_the_experts_and_shared_evenly(num_experts, num_threads):
    size = LayerSize(200, 64, num_experts, 1.0)
    config, params, x, _ = problems.layer(size)
    plan = snp.switch_layer.forward(params, x, config, training=True)[0].plan
    found = bare_products.experts(x, params["w_in"], params["w_out"], plan)
    every = list(chain(*found.forward, *found.backward))
    assert bare_products.flops(every) == 6 * 2 * len(plan.token) * 64 * 256
    assert sum(out.shape in ((64, 256), (256, 64)) for *_, out in every) == 2 * num_experts
    for groups in found:
        hands = bare_products.deal(groups, num_threads)
        work = list(map(bare_products.flops, hands))
        assert len(work) == num_threads and max(work) <= 1.05 * sum(work) / num_threads
        for *_, out in chain(*groups):
            out.fill(np.nan)
        bare_products.multiply(hands)
        for a, b, out in chain(*groups):
            np.testing.assert_allclose(out, a @ b, rtol=1e-4, atol=1e-4)


def test_the_bare_products_of_a_step_are_all_of_a_step():
    size = problems.STEPS["tiny"]
    config, _, batch = problems.step(size)
    found = bare_products.by_operation(size)
    done = sum(bare_products.flops(list(chain(*groups))) for both in found.values()
               for groups in both)
    rows = sum(len(group[0][2]) for group in found["switch.experts"].forward)
    unfilled = 2 * flops.expert_rows(config, batch.inputs.size, True) - rows
    expert_flops = 3 * 2 * 2 * config.d_model * config.d_ff
    assert done == flops.step(config, *batch.inputs.shape) - unfilled * expert_flops


def test_subjects_take_turns_and_each_round_begins_with_another(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)
    order = []
    found = timing.take_turns({name: lambda n, name=name: order.append(name) or float(ord(name))
                        for name in "abc"}, 3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"      # the first is not counted
    noisy = np.array([1.0, 1.0, 9.0, 1.0, 1.0])                 # slow in one round
    assert found["b"].tolist() == [98.0] * 3
    assert timing.ratio("r", 2 * noisy, noisy) == {"r": 2.0, "low": 2.0, "high": 2.0}


def test_each_moment_is_given_to_the_innermost_operation(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    clock = breakdown.Clock()
    inner = clock.timed(lambda: None, "inner")
    outer = clock.timed(lambda: [inner(), inner()], "outer")
    clock.measure(outer)
    assert clock.seconds == {"inner": 2.0, "outer": 3.0, breakdown.REST: 2.0}


@pytest.mark.thorough
def test_a_peer_that_computes_something_else_is_not_timed():
    wrong = Entry("wrong", "one", "ours:layer_unbalanced", "ours:layer")
    absent = Entry("absent", "one", "no_such_peer:layer", "ours:layer")
    bare, ours, *others = compare.compared(TINY, [*BARE_AND_OURS, wrong, absent], 1)
    assert bare["to bare"] == ours["to ours"] == 1 < ours["to bare"]
    assert ["ms" in row for row in others] == [False, False]
    assert "Mismatch" in others[0]["note"] and "no_such_peer" in others[1]["note"]


@pytest.mark.thorough
def test_the_command_prints_its_tables_and_sees_every_operation():
    out = subprocess.run(
        [sys.executable, "tests/benchmarks", "layer", "breakdown", "memory", "--sizes", "tiny",
         "--rounds", "1", "--no-peers"],
        cwd=Path(__file__).parents[2], check=True, text=True, capture_output=True).stdout
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in out.split("\n")]
    seconds = {row[0]: float(row[1]) for row in rows if ":" in "".join(row[:1])}
    assert set(seconds) == set(breakdown.OPERATIONS) and min(seconds.values()) > 0
    shares = [float(row[2]) for row in rows if row[:1] and row[0] in (*seconds, breakdown.REST)]
    assert sum(shares) == pytest.approx(1, rel=0.01)
    assert sum(row[:1] == ["least NumPy"] and "same numbers" in row[-1] for row in rows) == 2
    kept, peak, without_y = [float(cell) for cell in rows[-2][-3:]]
    assert 0 < kept < without_y < peak


@pytest.mark.crosscheck
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", subjects.PEERS, ids=lambda entry: f"{entry.name} {entry.threads}")
def test_a_peer_computes_the_same(entry):
    pytest.importorskip("benchmarks." + entry.function.split(":")[0])
    sizes = {"layer": problems.LAYERS, "step": problems.STEPS, "text": problems.TEXTS}
    size = sizes[entry.same_as.split(":")[1].split("_")[0]]["tiny"]
    compare.check(subjects.make(entry.function, size).results(),
                  subjects.make(entry.same_as, size).results(), entry.lacks)
