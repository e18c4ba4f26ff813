"""Many runs in several processes, each with one BLAS thread, which stop together.

A run's numbers depend on its arm and seed alone, provided that this process too has one BLAS thread
(the command line sees to that): the number of processes changes nothing but the time. A pipe to
each run's process brings its progress back and takes the request to stop there; if this process
dies, the pipe breaks, and the run saves and ends too.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from switch_np.experiments import runner
from switch_np.experiments.experiment import Arm
from switch_np.experiments.runner import Outcome
from switch_np.operations import environment


class Job(NamedTuple):
    """One run: an arm, a seed, its folder, and the folder of the run that it needs."""

    arm: Arm
    seed: int
    folder: Path
    source: Path | None

    @property
    def name(self) -> str:
        """What messages call the run."""
        return f"arm {self.arm.name}, seed {self.seed}"


class Worker(NamedTuple):
    """A job at work in a process of its own."""

    job: Job
    process: BaseProcess
    pipe: Connection


def run_all(jobs: Sequence[Job], processes: int, stop: Callable[[], bool],
            on_step: Callable[[Job, int], None], on_done: Callable[[Job, Outcome], None]) -> bool:
    """Complete every job; return False if `stop` ended it.

    A job comes after the one it needs. With one process the runs take place in this one, in order.
    """
    if processes == 1:
        for job in jobs:
            outcome = runner.complete(*job, stop=stop, report=partial(on_step, job))
            if outcome is None:
                return False
            on_done(job, outcome)
        return True
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


def _start(job: Job) -> Worker:
    """Start a process with one BLAS thread that ignores Ctrl-C: its parent tells it to stop."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(job, there), daemon=True)
    added = environment.missing(own_threads=1)
    os.environ.update(added)                      # inherited, as is the signal's handler
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
        for name in added:
            del os.environ[name]
    there.close()
    return Worker(job, process, here)


def _work(job: Job, pipe: Connection) -> None:
    """Do one job in a process of its own; send steps, then an outcome, None or an exception."""
    for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):        # Windows has no SIGHUP
        signal.signal(getattr(signal, name), signal.SIG_IGN)

    def send(message: int | Outcome | Exception | None) -> None:
        with suppress(BrokenPipeError):           # the parent is gone, and `pipe.poll` says stop
            pipe.send(message)

    try:
        send(runner.complete(*job, stop=pipe.poll, report=send))
    except (ValueError, TypeError, OSError) as error:
        send(ValueError(f"{job.name}: {error}"))
    except Exception:
        send(RuntimeError(f"{job.name}: {traceback.format_exc()}"))


def _listen(workers: list[Worker], on_step: Callable[[Job, int], None],
            done: Callable[[Job, Outcome], None]) -> None:
    """Pass on a message of each worker that has one; raise what went wrong in it."""
    ready = wait([worker.pipe for worker in workers], timeout=0.2)
    for worker in [worker for worker in workers if worker.pipe in ready]:
        job, process, pipe = worker
        try:
            message = pipe.recv()
        except (EOFError, ConnectionResetError):
            message = RuntimeError(f"{job.name}: its process ended without a result")
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
