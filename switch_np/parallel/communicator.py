"""The one thing that a rank asks of the others, an exchange; what it sends, how long it waits.

The engines are `simulated` and `mpi`: each is a subclass with `_swap` and `split`. This class
itself is a rank that is alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from switch_np.parallel import words


class Traffic:
    """What a rank has sent to others and how long it waited, over all its communicators.

    `bytes` and `calls` go by name, such as "all_to_all of rows"; `seconds` is the time spent in
    exchanges; `doing` is the name of the one that is under way, or was the last.
    """

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.seconds, self.doing = 0.0, ""


class Communicator:
    """A rank's place among `size` ranks, numbered from 0."""

    def __init__(self, rank: int = 0, size: int = 1, traffic: Traffic | None = None) -> None:
        self.rank, self.size = rank, size
        self.traffic = Traffic() if traffic is None else traffic

    def exchange(self, name: str, rows: np.ndarray, to: Sequence[int] | None,
                 come: Sequence[int]) -> np.ndarray:
        """Send rows to every rank and return, in the order of the ranks, those that come.

        Parameters
        ----------
        name
            Under which the bytes sent to others are counted.
        rows
            (R, ...) in the order of their destinations; of the same dtype on all ranks.
        to, come
            How many rows go to each rank (None: all of them to each), and come from each.

        Examples
        --------
        >>> rank = Communicator()
        >>> rank.exchange("all_to_all of rows", np.array([5.0, 6.0]), [2], [2]).tolist()
        [5.0, 6.0]
        """
        packed = words.pack(rows)
        arrived = np.empty((sum(come), *packed.shape[1:]), packed.dtype)
        leaving = (self.size - 1) * len(rows) if to is None else sum(to) - to[self.rank]
        traffic, begin = self.traffic, time.perf_counter()
        traffic.calls[name] += 1
        traffic.bytes[name] += leaving * (packed.nbytes // max(len(packed), 1))
        traffic.doing = name
        self._swap(packed, to, arrived, come)
        traffic.seconds += time.perf_counter() - begin
        return words.unpack(arrived, like=rows)

    def _swap(self, rows: np.ndarray, to: Sequence[int] | None, into: np.ndarray,
              come: Sequence[int]) -> None:
        """Fill `into`; this rank is alone."""
        into[...] = rows

    def split(self, color: int) -> Communicator:
        """Return the communicator of the ranks that name the same color, in this one's order."""
        return self


def starts(lengths: Sequence[int]) -> list[int]:
    """Return where each of several stretches of these lengths begins.

    >>> starts([2, 3, 1])
    [0, 2, 5]
    """
    return [sum(lengths[:r]) for r in range(len(lengths))]
