"""The ranks of an MPI run, one process each, through mpi4py: `mpiexec -n 4 python script.py`.

A rank that fails must not leave the others waiting. An uncaught exception names its rank and its
last exchange, and ends all ranks; so does an exchange that is not over in `limit` seconds, which is
what the others see of a rank that stalls. Launchers see to ranks that are killed.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from switch_np.operations import check
from switch_np.parallel.communicator import Communicator, Traffic, starts

PASS_ON = 0.5     # seconds for the launcher to forward the last message


class Mpi(Communicator):
    """A rank that is a process of an MPI run; `comm` is mpi4py's communicator."""

    def __init__(self, comm: Any, limit: float, traffic: Traffic) -> None:
        super().__init__(comm.Get_rank(), comm.Get_size(), traffic)
        self._comm, self._limit = comm, limit

    def _swap(self, rows: np.ndarray, to: Sequence[int] | None, into: np.ndarray,
              come: Sequence[int]) -> None:
        width = into.itemsize * int(np.prod(into.shape[1:]))          # bytes of a row
        sent, begin = (to, starts(to)) if to is not None else (
            [len(rows)] * self.size, [0] * self.size)
        request = self._comm.Ialltoallv(
            [rows, [n * width for n in sent], [n * width for n in begin], "B"],
            [into, [n * width for n in come], [n * width for n in starts(come)], "B"])
        latest = time.perf_counter() + self._limit
        while not request.Test():             # not Wait, during which Python handles no signal
            os.sched_yield()
            if time.perf_counter() > latest:
                self.abort(f"no answer in {self._limit:g} s from a rank that stalls")

    def split(self, color: int) -> Mpi:
        return Mpi(self._comm.Split(color, self.rank), self._limit, self.traffic)

    def abort(self, why: str) -> NoReturn:
        """End all ranks after a message that names this one and its last exchange."""
        where = self.traffic.doing or "before any exchange"
        print(f"rank {self.rank} of {self.size}, {where}: {why}", file=sys.stderr, flush=True)
        time.sleep(PASS_ON)                # a launcher that has ended forwards nothing
        self._comm.Abort(1)
        os._exit(1)                        # in case an MPI's Abort returns

    def on_error(self, kind: type[BaseException], error: BaseException,
                 trace: TracebackType | None) -> None:
        traceback.print_exception(kind, error, trace)
        self.abort(f"{kind.__name__}: {error}")


def connect(limit: float = 60.0) -> Mpi:
    """Return this process's rank; alone if no launcher, such as mpiexec, started it.

    `limit` is how many seconds an exchange may take. ValueError says what must be installed.
    """
    check.number("limit", limit, 0)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:         # RuntimeError: without an MPI library
        raise ValueError('mpi4py and an MPI must be installed, such as by: pip install -e ".[mpi]";'
                         f" got an import that failed: {error}") from error
    world = Mpi(MPI.COMM_WORLD, limit, Traffic())
    if world.size > 1:
        sys.excepthook = world.on_error
    return world
