"""All ranks in one process, a thread each: to read, to draw and to test.

In an exchange each rank posts what it sends on a board, all wait, each takes what is for it, and
all wait again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Barrier, BrokenBarrierError, Thread
from typing import Any

import numpy as np

from switch_np.operations import check
from switch_np.parallel.communicator import Communicator, Traffic, starts


class _Group:
    """What the ranks of a communicator share; `groups`: all those of a run."""

    def __init__(self, size: int, limit: float, groups: list[_Group]) -> None:
        self.barrier, self.limit, self.groups = Barrier(size, timeout=limit), limit, groups
        self.board: list[Any] = [None] * size
        self.splits: dict[tuple[int, int], _Group] = {}
        groups.append(self)


class Simulated(Communicator):
    """A rank that is a thread of this process."""

    def __init__(self, rank: int, group: _Group, traffic: Traffic) -> None:
        super().__init__(rank, len(group.board), traffic)
        self._group, self._splits = group, 0

    def _swap(self, rows: np.ndarray, to: Sequence[int] | None, into: np.ndarray,
              come: Sequence[int]) -> None:
        begin = [0] * self.size if to is None else starts(to)
        end = [len(rows)] * self.size if to is None else [b + n for b, n in zip(begin, to)]
        name, board = self.traffic.doing, self._group.board
        board[self.rank] = name, [rows[b:e] for b, e in zip(begin, end)]
        self._group.barrier.wait()
        for source, at in enumerate(starts(come)):
            doing, parts = board[source]
            if (doing, parts[self.rank].shape) != (name, (come[source], *into.shape[1:])):
                raise RuntimeError(f"rank {source} must send {come[source]} rows for {name!r}, got "
                                   f"shape {parts[self.rank].shape} for {doing!r}")
            into[at:at + come[source]] = parts[self.rank]
        self._group.barrier.wait()

    def split(self, color: int) -> Simulated:
        colors = self.exchange("split", np.array([color]), None, [1] * self.size)
        mine = np.flatnonzero(colors == color).tolist()
        self._splits += 1
        fresh = _Group(len(mine), self._group.limit, self._group.groups)
        group = self._group.splits.setdefault((self._splits, color), fresh)     # the first one's
        return Simulated(mine.index(self.rank), group, self.traffic)


def run(size: int, work: Callable[[Communicator], Any], limit: float = 60.0) -> list[Any]:
    """Return work(communicator) of every rank.

    An error on one rank ends the others; RuntimeError names the rank and its last exchange. So does
    a rank that others wait for longer than `limit` seconds.

    >>> run(3, lambda rank: rank.exchange("all_gather of ranks", np.array([rank.rank]), None,
    ...                                   [1, 1, 1]).tolist())
    [[0, 1, 2], [0, 1, 2], [0, 1, 2]]
    """
    check.integer("size", size, 1)
    groups: list[_Group] = []
    world = _Group(size, limit, groups)
    results, errors = [None] * size, list[tuple[str, BaseException]]()

    def begin(rank: int) -> None:
        traffic = Traffic()
        try:
            results[rank] = work(Simulated(rank, world, traffic))
        except BaseException as error:
            where = f"rank {rank}, {traffic.doing or 'before any exchange'}"
            errors.append((where, error))
            for group in groups:
                group.barrier.abort()

    threads = [Thread(target=begin, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for where, error in sorted(errors, key=lambda e: isinstance(e[1], BrokenBarrierError)):
        why = (f"no answer in {limit:g} s" if isinstance(error, BrokenBarrierError)
               else f"{type(error).__name__}: {error}")
        raise RuntimeError(f"{where}: {why}") from error
    return results
