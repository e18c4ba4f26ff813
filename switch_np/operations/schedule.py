"""Which rows are computed together, and when: in blocks that fit a cache, on several threads.

Neither the blocks nor the order in which gradients are added depend on the number of threads, so no
result does.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from switch_np.operations import threads

BLOCK = 2 ** 18      # elements of the widest array in a block: in float32 1 MiB, an L2 cache
STREAM = 2 ** 16     # elements of the residual stream in a slice of a batch: they stay in cache
LEAST = 2 ** 15      # a batch of fewer than two of these is one slice
Result = TypeVar("Result")


class Block(NamedTuple):
    """Some of one expert's rows, and what their forward saved for backward."""

    expert: int
    rows: slice
    cache: Any


def for_each_block(run: Callable[[int, slice], Any], start: np.ndarray, width: int) -> list[Block]:
    """Call run(expert, rows) for blocks of every expert's rows, and keep what it returns.

    Expert e has the rows start[e] to start[e + 1] - 1; the widest array that `run` makes has rows
    of length `width`.

    >>> [(block.expert, block.cache) for block in
    ...  for_each_block(lambda e, rows: rows.stop - rows.start, np.array([0, 2, 2, 5]), 4)]
    [(2, 3), (0, 2)]
    """
    ends, load = start.tolist(), np.diff(start)
    busiest_first = np.argsort(-load, kind="stable")          # so that threads finish together
    work = [(e, rows) for e in busiest_first.tolist() if load[e]
            for rows in threads.cut(ends[e], ends[e + 1], width, BLOCK)]
    caches = threads.each(run, *zip(*work), size=ends[-1] * width)
    return [Block(e, rows, cache) for (e, rows), cache in zip(work, caches)]


def for_each_block_backward(run: Callable[[slice, Any, dict[str, np.ndarray]], None],
                            blocks: Sequence[Block], grads: Mapping[str, np.ndarray]) -> None:
    """Call run(rows, cache, into) for every block; it writes its gradients to `into`.

    `grads` holds arrays (E, ...), to which the sums of experts with rows are written.
    """
    def sum_up(group: Sequence[Block], total: dict[str, np.ndarray]) -> None:
        first, *rest = group
        run(first.rows, first.cache, total)
        for block in rest:
            more = {name: np.empty_like(grad) for name, grad in total.items()}
            run(block.rows, block.cache, more)
            for name, grad in total.items():
                grad += more[name]

    # An expert's blocks are adjacent in the list, as groupby needs.
    groups = [list(group) for _, group in groupby(blocks, key=attrgetter("expert"))]
    totals = [{name: grad[group[0].expert] for name, grad in grads.items()} for group in groups]
    rows = sum(block.rows.stop - block.rows.start for block in blocks)
    size = rows * max(grad.shape[-1] for grad in grads.values())
    if len(groups) == 1 and len(blocks) > 1:          # a lone expert's blocks go to two threads
        half = -(-len(blocks) // 2)
        second = {name: np.empty_like(grad) for name, grad in totals[0].items()}
        threads.each(sum_up, [blocks[:half], blocks[half:]], [totals[0], second], size=size)
        for name, grad in totals[0].items():
            grad += second[name]
    else:
        threads.each(sum_up, groups, totals, size=size)


def rows(run: Callable[[slice], Result], shape: Sequence[int]) -> list[Result]:
    """Return run(slice) for slices of an array's rows, in order; for all rows at once if few."""
    n, size = shape[0], math.prod(shape)
    slices = [slice(0, n)] if threads.alone(size) else threads.cut(0, n, math.prod(shape[1:]))
    return threads.each(run, slices, size=size)


def together(*works: Callable[[], Any], size: int) -> list[Any]:
    """Return the results of functions that may run at once; `size`: elements computed in all."""
    return threads.each(lambda work: work(), works, size=size)


def sequences(run: Callable[..., Result], shape: tuple[int, int, int],
              *columns: Iterable[Any]) -> list[Result]:
    """Return run(slice, ...) for slices of a batch (B, S, D), in order; columns: more arguments.

    >>> sequences(lambda mine: (mine.start, mine.stop), (5, 128, 100))
    [(0, 2), (2, 5)]
    """
    b, s, d = shape
    half = b * s * d // 2                            # two slices at least, for two threads
    slices = threads.cut(0, b, s * d, min(STREAM, max(half, LEAST)))
    return threads.each(run, slices, *columns, size=2 * b * s * d)       # several arrays as large
