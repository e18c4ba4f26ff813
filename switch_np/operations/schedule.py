"""Which rows are computed together, and when: in blocks that fit a cache, on several threads.

The callers say what to compute, for any rows; this module cuts the rows into blocks. Neither the
blocks nor the order in which gradients are added depend on the number of threads, so no result
does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from switch_np.operations import threads

BLOCK = 2 ** 18      # elements of the widest array in a block: in float32 1 MiB, an L2 cache
STREAM = 2 ** 16     # elements of the residual stream in a slice of a batch at most
LEAST = 2 ** 15      # a batch of fewer than two of these is one slice
Result = TypeVar("Result")


class Block(NamedTuple):
    """Some of one expert's rows, and what their forward saved for backward."""

    expert: int
    rows: slice
    cache: Any


def for_each_block(run: Callable[[int, slice], Any], start: np.ndarray, width: int) -> list[Block]:
    """Call run(expert, rows) for blocks of every expert's rows, and keep what it returns.

    Expert e has the rows start[e] to start[e + 1] - 1, and is skipped if it has none. `width` is
    the length of a row of the widest array that `run` makes.

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

    `grads` holds arrays (E, ...), to which each expert's sums are written; the entries of experts
    without rows are left as they are.
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
    """Return run(slice) for slices of an array's rows, in order; for all rows at once if few.

    A row's result must not depend on its slice.

    >>> rows(lambda mine: mine.stop, (5, 4))
    [5]
    """
    size = math.prod(shape)
    if threads.alone(size):
        return [run(slice(0, shape[0]))]
    return threads.each(run, threads.cut(0, shape[0], math.prod(shape[1:])), size=size)


def together(*works: Callable[[], Any], size: int) -> list[Any]:
    """Return the results of functions that may run at once; `size`: elements computed in all.

    >>> together(lambda: 1, lambda: 2, size=0)
    [1, 2]
    """
    return threads.each(lambda work: work(), works, size=size)


def sequences(run: Callable[..., Result], shape: tuple[int, int, int],
              *columns: Iterable[Any]) -> list[Result]:
    """Return run(slice, ...) for slices of a batch (B, S, D), in order; columns: more arguments.

    Only a Switch layer mixes sequences. The rest of a block handles one slice from end to end, so
    that each operation finds its input still in cache.

    >>> sequences(lambda mine: (mine.start, mine.stop), (5, 128, 100))
    [(0, 2), (2, 5)]
    """
    b, s, d = shape
    half = b * s * d // 2                            # two slices at least, for two threads
    slices = threads.cut(0, b, s * d, min(STREAM, max(half, LEAST)))
    return threads.each(run, slices, *columns, size=b * s * d)
