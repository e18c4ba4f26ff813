"""Exchanges of the simulated ranks: what arrives, what is counted, and how errors end them all."""

import time

import numpy as np
import pytest

from switch_np.operations.rounded import enter
from switch_np.parallel import all_reduce, simulated, words
from switch_np.parallel.communicator import Communicator


def test_rows_go_where_they_should_and_only_what_leaves_is_counted():
    def work(comm):
        to = [(comm.rank + r) % 3 for r in range(3)]
        rows = 100 * comm.rank + np.arange(sum(to), dtype=np.float32)
        come = [(comm.rank + r) % 3 for r in range(3)]
        found = comm.exchange("rows", np.stack([rows, -rows], axis=1), to, come)
        return found[:, 0].tolist(), comm.traffic.bytes["rows"], comm.traffic.calls["rows"]

    (first, *_), *_, (last, sent, calls) = simulated.run(3, work)
    assert first == [100, 200, 201] and last == [1, 2, 202]
    assert (sent, calls) == ((2 + 0) * 2 * 4, 1)              # rank 2's last row stays


def test_a_group_talks_among_itself():
    def work(comm):
        pair = comm.split(comm.rank % 2)
        again = comm.split(comm.rank // 2)
        found = [int(all_reduce.forward(np.array(comm.rank), each)) for each in (pair, again, comm)]
        return pair.rank, pair.size, found

    assert simulated.run(4, work) == [(0, 2, [2, 1, 6]), (0, 2, [4, 1, 6]), (1, 2, [2, 5, 6]),
                                      (1, 2, [4, 5, 6])]


@pytest.mark.parametrize("name, size", [("bfloat16", 2), ("float16", 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounded_numbers_travel_in_half_the_bytes(name, size, dtype):
    x = np.array([0.1, -3e-41, 1e-7, np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38], dtype)
    x = enter(x, name)
    packed = words.pack(x)
    back = words.unpack(packed, like=x)
    assert packed.nbytes == size * len(x)
    assert type(back) is type(x) and back.dtype == dtype
    assert back.tobytes() == x.tobytes() or np.array_equal(back, x, equal_nan=True)
    assert (np.signbit(back) == np.signbit(x)).all()


def test_what_a_rank_alone_gets_is_fresh():
    x = np.ones(3)
    assert not np.shares_memory(Communicator().exchange("all_gather of x", x, None, [3]), x)


def test_an_error_on_one_rank_ends_all_and_is_named():
    def work(comm):
        all_reduce.forward(np.ones(2), comm, "losses")
        if comm.rank == 2:
            raise ZeroDivisionError("of its own")
        all_reduce.forward(np.ones(2), comm.split(0), "grads")

    begin = time.perf_counter()
    with pytest.raises(RuntimeError, match="rank 2, all_gather of losses: ZeroDivisionError: of"):
        simulated.run(4, work)
    assert time.perf_counter() - begin < 5


def test_a_rank_that_does_not_come_is_waited_for_no_longer_than_the_limit():
    with pytest.raises(RuntimeError, match=r"rank 1, reduce_scatter of x: no answer in 0.05 s"):
        simulated.run(2, lambda comm: comm.rank and all_reduce.forward(np.ones(2), comm), 0.05)


def test_ranks_that_do_not_do_the_same_are_told():
    with pytest.raises(RuntimeError, match=r"must send 1 rows for '[ab]', got shape \(1,\) for"):
        simulated.run(2, lambda comm: comm.exchange("ab"[comm.rank], np.ones(2), [1, 1], [1, 1]))
    with pytest.raises(RuntimeError, match=r"must send 2 rows for 'a', got shape \(1,\)"):
        simulated.run(2, lambda comm: comm.exchange("a", np.ones(2), [1, 1], [2, 2]))
