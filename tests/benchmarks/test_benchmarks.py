"""The benchmarks measure what they say: products, turns, workers, memory; and peers agree."""

import time

import numpy as np
import pytest

from benchmarks import (
    accounts,
    agreement,
    breakdown,
    cases,
    clock,
    compare,
    floor,
    least,
    measure,
    memory,
    operations,
    ours,
    peers,
    products,
    settings,
    turns,
)
from benchmarks.agreement import Disagreement
from benchmarks.process import Process, WorkerError
from benchmarks.subject import Spec, Subject
from switch_np.experiments import flops

TINY = cases.sizes(64, 8, 4, 1.0)
MODEL = {"d_model": 8, "rows": 2, "length": 6}


def test_the_floor_computes_the_products_of_the_rows_that_are_kept():
    case = cases.layer(**TINY)
    _, plan = cases.layer_step(case)
    both = floor.experts(case.x, case.params["w_in"], case.params["w_out"], plan)
    every = [product for groups in both for group in groups for product in group]
    assert 0 < plan.dropped_fraction < 1
    n, d, f = len(plan.token), *case.params["w_in"].shape[1:]
    assert sum(product.flops for product in every) == 6 * 2 * n * d * f
    shapes = [product.out.shape for group in both.backward for product in group]
    assert sum(shape == case.params["w_in"].shape[1:] for shape in shapes) == 4
    for group in both.backward:
        for product in group:
            product.out.fill(np.nan)
    products.Runner().subject(both).step()
    for product in every:
        np.testing.assert_allclose(product.out, product.a @ product.b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [cases.sizes(256, 64, 8), cases.sizes(256, 64, 1)], ids=str)
def test_threads_share_all_the_floor_s_work_evenly(sizes):
    case = cases.layer(**sizes)
    _, plan = cases.layer_step(case)
    groups = floor.experts(case.x, case.params["w_in"], case.params["w_out"], plan).forward
    hands = products.deal(groups, 2)
    work = [sum(product.flops for product in hand) for hand in hands]
    assert sum(work) == sum(product.flops for group in groups for product in group)
    assert max(work) <= 1.05 * sum(work) / 2
    for hand in hands:
        for product in hand:
            product.out.fill(np.nan)
            products.multiply([product])
    for product in (product for group in groups for product in group):
        assert np.isfinite(product.out).all()


def test_the_floor_of_a_step_has_the_operations_of_a_step():
    case = cases.model(**MODEL)
    config = case.config
    found = floor.by_operation(case)
    done = sum(product.flops for both in found.values() for groups in both for group in groups
               for product in group)
    full = flops.step(config, *case.batch.inputs.shape)
    rows = 2 * flops.expert_rows(config, case.batch.inputs.size, True)
    kept = sum(group[0].out.shape[0] for group in found["experts"].forward)
    unfilled = 3 * 2 * (rows - kept) * 2 * config.d_model * config.d_ff
    assert done == full - unfilled


def test_subjects_take_turns_and_each_round_begins_with_another():
    order = []

    def subject(name, seconds):
        def calls(n):
            order.append(name)
            return {"": [seconds] * n}
        return calls

    found = turns.take({"a": subject("a", 1.0), "b": subject("b", 2.0), "c": subject("c", 4.0)}, 3,
                       pause=0)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"      # the first is not counted
    assert turns.ratio(found["c"][""], found["b"][""]) == (2.0, 2.0, 2.0)
    noisy = np.array([1.0, 1.0, 9.0, 1.0, 1.0])                 # one round in which all was slow
    assert turns.ratio(2 * noisy, noisy).median == 2.0


def test_a_worker_makes_times_and_answers_mistakes():
    with Process("one") as process:
        process.ask(make="benchmarks.ours:layer", case="tiny", arguments=TINY)
        assert len(process.ask(time=2, case="tiny")[""]) == 2
        numbers = measure.numbers(process, "tiny")
        for name, value in ours.layer(**TINY).numbers().items():
            np.testing.assert_allclose(numbers[name], value, rtol=1e-4, atol=1e-5)
        with pytest.raises(WorkerError, match="KeyError: 'other'"):
            process.ask(time=1, case="other")
        with pytest.raises(WorkerError, match="no_such_function"):
            process.ask(call="benchmarks.ours:no_such_function", arguments={})
        assert process.ask(call="benchmarks.test_benchmarks:threads", arguments={}) == ["1", "1"]
        with pytest.raises(WorkerError, match="status 3"):
            process.ask(call="os:_exit", arguments={"status": 3})


def threads():
    """Return the settings of this process; a worker calls it."""
    import os

    return [os.environ["OPENBLAS_NUM_THREADS"], os.environ[settings.POOL]]


def wrong(**sizes):
    """Return a layer that computes something else; a worker makes it."""
    case = cases.layer(**sizes)

    def numbers():
        found = dict(cases.layer_step(case)[0])
        return {**found, "w_in": 1.01 * found["w_in"]}

    return Subject(lambda: None, numbers)


def test_a_peer_that_computes_something_else_is_not_timed():
    specs = [Spec(peers.BARE, "benchmarks.floor:layer"), Spec(peers.OURS, "benchmarks.ours:layer"),
             Spec("wrong", "benchmarks.test_benchmarks:wrong", agrees=peers.SAME)]
    said = []
    rows = compare.compared({"tiny": TINY}, specs, 2, said.append)
    assert [row["subject"] for row in rows] == [spec.name for spec in specs]
    assert "w_in differs by 0.01" in rows[2]["note"] and "w_in differs by 0.01" in said[-1]
    assert "milliseconds" not in rows[2]
    assert rows[0]["to_bare"] == rows[1]["to_ours"] == 1.0
    assert rows[1]["to_bare"] > 1 > rows[0]["to_ours"]


def test_memory_counts_each_array_once_and_nothing_that_was_there():
    found = memory.layer(**cases.sizes(512, 32, 4))
    case = cases.layer(**cases.sizes(512, 32, 4))
    assert found["params"] == sum(value.nbytes for value in case.params.values())
    assert found["grads"] == found["params"] + case.x.nbytes
    assert found["moments"] == 2 * found["params"]
    _, plan = cases.layer_step(case)
    assert found["row_array"] == 4 * len(plan.token) * 32
    hidden = 4 * len(plan.token) * 128
    assert hidden < found["kept"] < found["after_forward"]
    assert found["kept"] + found["outputs"] == pytest.approx(found["after_forward"], rel=0.1)
    assert found["peak"] >= found["after_forward"] + found["grads"] - case.x.nbytes
    y = case.x.nbytes
    assert found["peak_without_y"] == pytest.approx(found["peak"] - y, abs=y / 10)
    row, = accounts.memory({"tiny": TINY}, "one")
    assert row["peak_to_kept"] > row["peak_to_all"] > 1
    assert row["peak_to_kept"] > row["without_y_to_kept"] > 1


def test_the_clock_gives_each_moment_to_the_innermost_part(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    timer = clock.Clock()
    inner = timer.timed(lambda: None, "inner")
    outer = timer.timed(lambda: [inner(), inner()], "outer")
    timer.begin()
    outer()
    assert timer.end() == {"inner": 2.0, "outer": 3.0, clock.REST: 2.0}


@pytest.mark.parametrize("make, limits, sizes, listed", [
    ("layer", "layer_limits", TINY, operations.LAYER),
    ("step", "step_limits", MODEL, operations.STEP)])
def test_the_breakdown_sees_every_operation_run(make, limits, sizes, listed):
    rows = accounts.by_operation(make, {"tiny": sizes}, listed, 1, "one")
    parts_of = {f"{row['operation']} {row['phase']}".strip(): row for row in rows}
    assert set(parts_of) == {*listed, clock.REST, accounts.WHOLE}
    assert min(row["milliseconds"] for row in rows) > 0
    assert sum(row["share"] for row in rows) == pytest.approx(2)        # the parts, and the whole
    floors = getattr(breakdown, limits)(**sizes).step()
    assert set(floors) == {part for part, row in parts_of.items() if "limit" in row}
    assert min(floors.values()) > 0


@pytest.mark.parametrize("num_experts", [1, 4])
def test_the_least_numpy_computes_the_layer(num_experts):
    sizes = cases.sizes(64, 8, num_experts, 1.0)
    found, wanted = least.layer(**sizes).numbers(), ours.layer(**sizes).numbers()
    assert (wanted["y"] == 0).all(axis=1).any() == (num_experts > 1)
    assert agreement.check(found, wanted) < 1e-5


PEERS = [*((spec, TINY) for spec in peers.LAYER if spec.needs),
         *((spec, MODEL) for spec in peers.STEP if spec.needs)]


@pytest.mark.crosscheck
@pytest.mark.parametrize("spec, sizes", PEERS, ids=[spec.key for spec, _ in PEERS])
def test_a_peer_computes_the_same(spec, sizes):
    for module in spec.needs:
        pytest.importorskip(module)
    found = measure.timed({"tiny": sizes}, [spec], 1)
    assert found.notes["tiny", spec.key].startswith("same numbers to"), found.notes
    assert found.of("tiny", spec).shape == (1,)
    with pytest.raises(Disagreement):                            # of another problem, it does not
        other = measure.References({"tiny": sizes}).numbers(spec.agrees, "tiny")
        measure.agreement.check({**other, **{name: other[name] * 1.001 for name in other}}, other)
