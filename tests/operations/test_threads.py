"""Threads change no number, lose no error, and keep the caller's settings."""

import threading
import time

import numpy as np
import pytest
from support import TINY, layer_problem, model_problem

import switch_np as snp
from switch_np import model
from switch_np.__main__ import main
from switch_np.operations import environment, schedule, threads, tree
from switch_np.training import optimizer
from switch_np.transformer.model_config import ModelConfig


@pytest.fixture
def three(monkeypatch):
    """Three threads, for work of any size."""
    monkeypatch.setattr(threads, "count", lambda: 3)
    monkeypatch.setattr(threads, "SMALL", 0)
    threads._helpers.cache_clear()
    yield
    threads._helpers.cache_clear()


def test_results_come_in_order_and_from_several_threads(three):
    meeting = threading.Barrier(3, timeout=20)      # passed only if three are at work at once

    def work(i):
        if i < 3:
            meeting.wait()
        return i, threading.get_ident()

    order, who = zip(*threads.each(work, range(12), size=12))
    assert order == tuple(range(12)) and len(set(who)) == 3


@pytest.mark.parametrize("startable", [0, 1])
def test_where_threads_cannot_start_those_that_did_work(three, monkeypatch, startable):
    start, begun = threading.Thread.start, []

    def refuse(thread):
        if len(begun) == startable:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    meeting = threading.Barrier(1 + startable, timeout=20)

    def work(i):
        if i <= startable:
            meeting.wait()
        return i, threading.get_ident()

    order, who = zip(*threads.each(work, range(9), size=9))
    assert order == tuple(range(9)) and len(set(who)) == 1 + startable
    assert (threads._helpers() is None) == (not startable)              # nothing waits for nobody


def test_small_work_stays_on_its_thread(three, monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 100)
    own = threading.get_ident()
    assert threads.each(lambda i: threading.get_ident(), range(9), size=99) == [own] * 9


@pytest.mark.parametrize("bad", [0, 5, 11])
def test_an_error_in_any_part_is_raised(three, bad):
    def work(i):
        if i == bad:
            raise ValueError(f"part {i}")

    with pytest.raises(ValueError, match=f"part {bad}"):
        threads.each(work, range(12), size=12)


def test_the_callers_errstate_holds_in_every_thread(three):
    meeting = threading.Barrier(3, timeout=20)

    def work(i):
        meeting.wait()
        return np.array([1e30], np.float32) * np.float32(1e30)

    with np.errstate(over="ignore"):
        assert all(np.isinf(found) for found in threads.each(work, range(3), size=3))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        threads.each(work, range(3), size=3)


class Late:
    """Helpers of which each comes so many seconds later than the one before."""

    def __init__(self, wait):
        self.wait, self.jobs = wait, []

    def put(self, job):
        self.jobs.append(threading.Timer(len(self.jobs) * self.wait, job))
        self.jobs[-1].start()


def test_a_helper_that_comes_late_ends_nobody_s_wait(three, monkeypatch):
    busy, helpers = threading.Event(), Late(0.1)

    def work(i):
        if threading.current_thread() is threading.main_thread():
            busy.wait(20)
        else:
            busy.set()
            time.sleep(0.3)
        return i

    with monkeypatch.context() as patch:
        patch.setattr(threads, "_helpers", lambda: helpers)
        assert threads.each(work, range(4), size=4) == [0, 1, 2, 3]


def test_after_an_error_nobody_works_on(three, monkeypatch):
    """Helpers come before, during and after the part that fails; those that are late do nothing."""
    counts = []
    for trial in range(200):
        helpers, begun, ended = Late(trial % 5 * 0.0005), [], []

        def work(i, begun=begun, ended=ended):
            begun.append(i)
            time.sleep(0.001)
            ended.append(i)
            if i == 0:
                raise ValueError("part 0")

        with monkeypatch.context() as patch:
            patch.setattr(threads, "_helpers", lambda helpers=helpers: helpers)
            with pytest.raises(ValueError, match="part 0"):
                threads.each(work, range(40), size=40)
        assert sorted(begun) == sorted(ended)
        counts.append(len(begun))
        for job in helpers.jobs:
            job.join()
        assert len(begun) == counts[-1]
    assert min(counts) < 10


def test_no_error_is_lost(three):
    meeting = threading.Barrier(3, timeout=20)

    def work(i):
        meeting.wait()
        raise ValueError(threading.current_thread() is threading.main_thread())

    with pytest.raises(ValueError, match="True") as raised:
        threads.each(work, range(9), size=9)
    second = raised.value.__context__
    assert second.args == second.__context__.args == (False,)


def layer_numbers():
    found = {}
    for num_experts, k in ((1, 1), (2, 1), (5, 1), (5, 2)):
        config = snp.SwitchConfig(num_experts=num_experts, top_k=k, expert_dropout=0.2)
        params, x, _, noise = layer_problem(1, config, shape=(40,))
        out, cache = snp.switch_layer.forward(params, x, config, noise=noise, training=True)
        d_x, grads = snp.switch_layer.backward(x, cache, 0.3, 0.2)
        found[f"{num_experts}.{k}"] = {"y": out.y, "d_x": d_x, **grads}
    return tree.flatten(found)


def gradient_numbers():
    config = ModelConfig(**TINY, num_encoder_layers=2, dropout=0.2)
    params, batch = model_problem(0, config, b=5)
    loss, grads = model.loss_and_grads(params, batch, config, rng=np.random.default_rng(0),
                                       training=True)
    return tree.flatten({"loss": loss.total, "grads": grads})


def stepped_numbers():
    params, _ = model_problem(0, ModelConfig(**TINY))
    optimizer.step(params, params, optimizer.init(params), optimizer.AdamW(), 0.1, 1)
    return tree.flatten(params)


def cut_into_three_rows(monkeypatch):
    cut = threads.cut
    monkeypatch.setattr(threads, "cut", lambda start, stop, width, elements=0: cut(
        start, stop, width, 3 * width))


def close(numbers, wanted, rtol):
    for name, value in numbers.items():
        np.testing.assert_allclose(value, wanted[name], rtol=rtol, atol=1e-13, err_msg=name)


def test_blocks_of_an_expert_s_rows_are_its_rows(monkeypatch):
    whole = layer_numbers()
    cut_into_three_rows(monkeypatch)
    close(layer_numbers(), whole, rtol=1e-12)


@pytest.mark.parametrize("numbers", [layer_numbers, gradient_numbers, stepped_numbers])
def test_no_number_depends_on_the_threads(monkeypatch, numbers, request):
    cut_into_three_rows(monkeypatch)
    alone = numbers()
    request.getfixturevalue("three")
    for name, value in numbers().items():
        assert np.array_equal(value, alone[name]), name


def test_a_batch_in_slices_is_the_batch(monkeypatch):
    whole = gradient_numbers()
    monkeypatch.setattr(schedule, "STREAM", 1)
    assert len(schedule.sequences(lambda mine: mine, (5, 6, 4))) == 5         # it did cut
    close(gradient_numbers(), whole, rtol=1e-10)


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5", ""])
def test_a_wrong_number_of_threads_is_refused(monkeypatch, said):
    monkeypatch.setenv(environment.OWN_THREADS, said)
    with pytest.raises(ValueError, match=r"SWITCH_NP_NUM_THREADS must be a whole number"):
        threads.count.__wrapped__()


def test_the_command_line_refuses_it_before_any_work(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(environment.OWN_THREADS, "two")
    monkeypatch.setattr(threads, "count", threads.count.__wrapped__)
    assert main(["train", "--steps", "1"]) == 2
    assert "SWITCH_NP_NUM_THREADS must be a whole number" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
