"""Many runs in several processes, each with one BLAS thread, which stop together.

A run's numbers depend on its arm and seed alone, provided that this process too has one BLAS thread
(the command line sees to that): the number of processes changes nothing but the time. Each run has
its own process and a pipe to it. Its progress comes back through the pipe, the request to stop goes
out; and if this process dies, the pipe breaks, and the run saves and ends too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from switch_np.commands import environment
from switch_np.experiments import runner
from switch_np.experiments.experiment import Arm
from switch_np.experiments.runner import Outcome


class Job(NamedTuple):
    """One run: an arm, a seed, its folder, and the folder of the run that it needs."""

    arm: Arm
    seed: int
    folder: Path
    source: Path | None


class Worker(NamedTuple):
    """A job at work in a process of its own."""

    job: Job
    process: BaseProcess
    pipe: Connection


def run_all(jobs: Sequence[Job], processes: int, stop: Callable[[], bool],
            on_step: Callable[[Job, int], None],
            on_done: Callable[[Job, Outcome], None]) -> bool:
    """Complete every job; return False if `stop` ended it.

    A job stands after the one it needs. With one process the runs take place in this one, in order.
    """
    if processes == 1:
        return _run_here(jobs, stop, on_step, on_done)
    waiting, workers = list(jobs), list[Worker]()
    unfinished = {job.folder for job in jobs}

    def done(job: Job, outcome: Outcome) -> None:
        unfinished.remove(job.folder)
        on_done(job, outcome)

    try:
        while unfinished and not stop():
            ready = [job for job in waiting if job.source not in unfinished]
            for job in ready[:processes - len(workers)]:
                waiting.remove(job)
                workers.append(_start(job))
            _listen(workers, on_step, done)
    finally:
        for worker in workers:
            with suppress(BrokenPipeError):       # it has just finished
                worker.pipe.send("stop")
        while workers:
            _listen(workers, on_step, done)
    return not unfinished


def _run_here(jobs: Sequence[Job], stop: Callable[[], bool], on_step: Callable[[Job, int], None],
              on_done: Callable[[Job, Outcome], None]) -> bool:
    for job in jobs:
        outcome = runner.complete(*job, stop=stop, report=partial(on_step, job))
        if outcome is None:
            return False
        on_done(job, outcome)
    return True


def _start(job: Job) -> Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(job, there), daemon=True)
    with _one_thread_and_no_interrupt():
        process.start()
    there.close()
    return Worker(job, process, here)


@contextmanager
def _one_thread_and_no_interrupt() -> Iterator[None]:
    """Let a new process inherit one BLAS thread, and ignore Ctrl-C: its parent tells it to stop."""
    added = environment.missing(own_threads=1)
    os.environ.update(added)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for name in added:
            del os.environ[name]


def _work(job: Job, pipe: Connection) -> None:
    """Do one job in a process of its own; send steps, then an outcome, None or an exception."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def send(message: int | Outcome | Exception | None) -> None:
        with suppress(BrokenPipeError):           # the parent is gone, and `pipe.poll` says stop
            pipe.send(message)

    try:
        send(runner.complete(*job, stop=pipe.poll, report=send))
    except (ValueError, TypeError, OSError) as error:
        send(ValueError(f"arm {job.arm.name}, seed {job.seed}: {error}"))
    except Exception:
        send(RuntimeError(f"arm {job.arm.name}, seed {job.seed}: {traceback.format_exc()}"))


def _listen(workers: list[Worker], on_step: Callable[[Job, int], None],
            done: Callable[[Job, Outcome], None]) -> None:
    """Pass on a message of each worker that has one; raise what went wrong in it."""
    ready = wait([worker.pipe for worker in workers], timeout=0.2)
    for worker in [worker for worker in workers if worker.pipe in ready]:
        job, process, pipe = worker
        try:
            message = pipe.recv()
        except (EOFError, ConnectionResetError):
            message = RuntimeError(f"arm {job.arm.name}, seed {job.seed}: its process ended "
                                   f"without a result")
        if isinstance(message, int):
            on_step(job, message)
            continue
        workers.remove(worker)
        pipe.close()
        process.join()
        if isinstance(message, Exception):
            raise message
        if message is not None:
            done(job, message)
