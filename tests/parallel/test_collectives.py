"""Each collective: what it computes, its adjoint by ⟨A x, y⟩ = ⟨x, Aᵀ y⟩, and its bytes."""

import numpy as np
import pytest
from parallel import collective_cases as cases

from switch_np.parallel import all_gather, all_reduce, broadcast, simulated


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("name", cases.CASES)
def test_backward_is_the_adjoint_of_forward(name, size):
    found = simulated.run(size, lambda comm: cases.both_ways(name, comm))
    x, y = cases.arrays(name, size)
    forwards = sum((a_x * y_r).sum() for (a_x, _), y_r in zip(found, y))
    backwards = sum((x_r * at_y).sum() for (_, at_y), x_r in zip(found, x))
    assert abs(forwards - backwards) < 1e-13 * sum((x_r ** 2).sum() for x_r in [*x, *y])
    assert abs(forwards) > 1e-3


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_what_they_compute(size):
    x, _ = cases.arrays("all_reduce", size)
    found = simulated.run(size, lambda comm: (
        all_reduce.forward(x[comm.rank], comm),
        all_gather.backward(x[comm.rank], [5 * (r == 0) for r in range(size)], comm),
        all_gather.forward(x[comm.rank], [5] * size, comm),
        broadcast.forward(x[comm.rank], comm)))
    total = sum(x[1:], x[0])                                   # in the order of the ranks
    for rank, (summed, scattered, gathered, sent) in enumerate(found):
        assert (summed == total).all() and (scattered == (total if rank == 0 else 0)).all()
        assert (gathered == np.concatenate(x)).all() and (sent == x[0]).all()
        assert len(scattered) == 5 * (rank == 0)


def sent(size, name, rows, dtype=np.float64):
    """Return the bytes that each rank sends, by collective."""
    run = {"all_reduce": lambda c: all_reduce.forward(np.ones(rows, dtype), c),
           "all_gather": lambda c: all_gather.forward(np.ones(rows, dtype), [rows] * size, c),
           "reduce_scatter": lambda c: all_gather.backward(
               np.ones(rows * size, dtype), [rows] * size, c),
           "broadcast": lambda c: broadcast.forward(np.ones(rows, dtype), c)}[name]
    return simulated.run(size, lambda comm: (run(comm), sum(comm.traffic.bytes.values()))[1])


@pytest.mark.parametrize("size", [1, 2, 4])
def test_bytes_are_those_of_the_formulas(size):
    n, others = size, size - 1
    assert sent(n, "all_reduce", 12) == [2 * others * 12 // n * 8] * n
    assert sent(n, "all_reduce", 12, np.float32) == [2 * others * 12 // n * 4] * n
    assert sent(n, "all_gather", 3) == sent(n, "reduce_scatter", 3) == [others * 3 * 8] * n
    assert sent(n, "broadcast", 3) == [others * 3 * 8] + [0] * others
