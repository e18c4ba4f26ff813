"""The collectives as functions of a communicator and an array, for both engines."""

import numpy as np

from switch_np.parallel import all_gather, all_reduce, all_to_all, broadcast


def to(rank, size):
    """Return how many rows a rank sends to each: some none."""
    return [(1 + 2 * rank + 3 * r) % 4 for r in range(size)]


def come(rank, size):
    return [to(r, size)[rank] for r in range(size)]


def lengths(size):
    return [(r + 1) % 3 for r in range(size)]


# Name: forward and backward of (comm, array), and the rows of x and y that a rank of n has.
CASES = {
    "all_to_all": (
        lambda c, x: all_to_all.forward(x, to(c.rank, c.size), come(c.rank, c.size), c),
        lambda c, y: all_to_all.backward(y, to(c.rank, c.size), come(c.rank, c.size), c),
        lambda r, n: sum(to(r, n)), lambda r, n: sum(come(r, n))),
    "all_reduce": (lambda c, x: all_reduce.forward(x, c), lambda c, y: all_reduce.backward(y, c),
                   lambda r, n: 5, lambda r, n: 5),
    "all_gather": (lambda c, x: all_gather.forward(x, lengths(c.size), c),
                   lambda c, y: all_gather.backward(y, lengths(c.size), c),
                   lambda r, n: lengths(n)[r], lambda r, n: sum(lengths(n))),
    "broadcast": (lambda c, x: broadcast.forward(x, c, root=c.size - 1),
                  lambda c, y: broadcast.backward(y, c, root=c.size - 1),
                  lambda r, n: 3, lambda r, n: 3)}


def arrays(name, size, seed=0):
    """Return random x and y of every rank."""
    rng = np.random.default_rng(seed)
    return ([rng.standard_normal((rows(r, size), 2)) for r in range(size)]
            for rows in CASES[name][2:])


def both_ways(name, comm, seed=0):
    """Return A x and Aᵀ y of this rank."""
    forward, backward, *_ = CASES[name]
    x, y = arrays(name, comm.size, seed)
    return forward(comm, x[comm.rank]), backward(comm, y[comm.rank])
