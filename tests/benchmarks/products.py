"""Matrix products that wait for nothing, dealt out to threads.

Each is written with `np.matmul(..., out=)` into an array that is there already. Over several
threads they are dealt out whole, those of a group together, the largest first; where that would be
uneven, each is cut by rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from benchmarks.subject import Subject
from switch_np.operations import threads

UNEVEN = 1.05        # the busiest thread's work over the mean, above which products are cut
WORTH = 2e6          # operations for which it takes as long to hand them to another thread


class Product(NamedTuple):
    """out = a @ b, or a batch of them."""

    a: np.ndarray
    b: np.ndarray
    out: np.ndarray

    @property
    def flops(self) -> int:
        """Two per multiply-add."""
        return 2 * self.out.size * self.a.shape[-1]

    def piece(self, part: int, parts: int) -> Product:
        """Return one of several equal parts, cut along the first axis of the output."""
        begin, end = (len(self.out) * n // parts for n in (part, part + 1))
        b = self.b[begin:end] if self.b.ndim > 2 else self.b
        return Product(self.a[begin:end], b, self.out[begin:end])


class Both(NamedTuple):
    """The products of a forward and of a backward, in groups that stay on one thread."""

    forward: list[list[Product]]
    backward: list[list[Product]]

    def __add__(self, more: Both) -> Both:
        return Both(self.forward + more.forward, self.backward + more.backward)


def of(a: np.ndarray, b: np.ndarray) -> Both:
    """Return the products of y = a b: y itself, and both gradients.

    >>> both = of(np.ones((4, 2)), np.ones((2, 3)))
    >>> [product.out.shape for group in both.forward + both.backward for product in group]
    [(4, 3), (2, 3), (4, 2)]
    """
    out = np.matmul(a, b)
    return Both([[Product(a, b, out)]],
                [[Product(a.swapaxes(-1, -2), out, np.empty(b.shape, b.dtype))],
                 [Product(out, b.swapaxes(-1, -2), np.empty(a.shape, a.dtype))]])


def deal(groups: Sequence[list[Product]], threads: int) -> list[list[Product]]:
    """Return what each thread computes; fewer threads where the work is small."""
    flops = sum(one.flops for group in groups for one in group)
    threads = int(np.clip(flops // WORTH, 1, threads))
    hands: list[list[Product]] = [[] for _ in range(threads)]
    work = [0] * threads
    for group in sorted(groups, key=lambda group: -sum(one.flops for one in group)):
        least = work.index(min(work))
        hands[least] += group
        work[least] += sum(one.flops for one in group)
    if max(work) > UNEVEN * flops / threads:
        hands = [[one.piece(n, threads) for group in groups for one in group]
                 for n in range(threads)]
    return hands


class Runner:
    """Computes products, over this process's own threads if it is to have some."""

    def __init__(self) -> None:
        self.threads = threads.count()
        self.pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None

    def run(self, hands: Sequence[list[Product]]) -> None:
        """Compute what `deal` dealt, the first hand in this thread."""
        others = [self.pool.submit(multiply, hand) for hand in hands[1:]]
        multiply(hands[0])
        for other in others:
            other.result()

    def subject(self, both: Both) -> Subject:
        """Return products as a subject that is timed."""
        forward, backward = (deal(groups, self.threads) for groups in both)

        def step() -> None:
            self.run(forward)
            self.run(backward)

        return Subject(step, dict)

    def seconds(self, groups: Sequence[list[Product]]) -> float:
        """Return how long the products take now."""
        hands = deal(groups, self.threads)
        begin = time.perf_counter()
        self.run(hands)
        return time.perf_counter() - begin


def multiply(hand: Sequence[Product]) -> None:
    """Compute products one after the other."""
    for a, b, out in hand:
        np.matmul(a, b, out=out)
