"""Many runs over several processes, each with one BLAS thread; all can be stopped together.

A run's numbers depend on its arm and seed alone, where this process too has one BLAS thread (the
command line sees to that); so the number of processes changes nothing but the time. Each run has a
process of its own and a pipe to it: progress comes back through it, the word to stop goes down, and
when this process dies, its end closes and the run saves and ends too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

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


def run_all(jobs: Sequence[Job], processes: int, stop: Callable[[], bool],
            on_step: Callable[[Job, int], None],
            on_done: Callable[[Job, Outcome], None]) -> bool:
    """Complete every job, one that needs another after it; return False if `stop` ended it.

    With one process the runs are done here, one after the other.
    """
    waiting, finished = list(jobs), set()
    to_come = {job.folder for job in jobs}
    running: dict[Connection, tuple[Job, Any]] = {}

    def ready() -> Job | None:
        blocked = to_come - finished
        return next((job for job in waiting if job.source not in blocked), None)

    def done(job: Job, outcome: Outcome) -> None:
        finished.add(job.folder)
        on_done(job, outcome)

    try:
        while (waiting or running) and not stop():
            while processes > 1 and len(running) < processes and (job := ready()):
                waiting.remove(job)
                running.update([_start(job)])
            if processes == 1 and (job := ready()):
                outcome = runner.complete(*job, stop=stop,
                                          report=lambda step, job=job: on_step(job, step))
                if outcome is not None:
                    waiting.remove(job)
                    done(job, outcome)
            for pipe in wait(list(running), timeout=0.2):
                kind, value = _receive(pipe, running)
                if kind == "step":
                    on_step(running[pipe][0], value)
                else:
                    done(_end(running, pipe), value)
    finally:
        _stop(running, done)
    return not waiting and to_come <= finished


def _start(job: Job) -> tuple[Connection, tuple[Job, Any]]:
    """Start a process that does one job."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(job, there), daemon=True)
    with _one_thread_and_no_interrupt():
        process.start()
    there.close()
    return here, (job, process)


@contextmanager
def _one_thread_and_no_interrupt() -> Any:
    """Let a new process inherit one BLAS thread, and deafness to the terminal's Ctrl-C.

    Whoever starts the processes hears it, and tells them.
    """
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
    """Do one job in a process of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    told = 0.0

    def report(step: int) -> None:
        nonlocal told
        if time.perf_counter() > told + 0.1:
            told = time.perf_counter()
            pipe.send(("step", step))

    try:
        outcome = runner.complete(*job, stop=pipe.poll, report=report)
        pipe.send(("stopped", None) if outcome is None else ("done", outcome))
    except BrokenPipeError:                   # who asked is gone
        pass
    except (ValueError, TypeError, OSError) as error:
        pipe.send(("failed", ValueError(f"arm {job.arm.name}, seed {job.seed}: {error}")))
    except Exception:
        pipe.send(("failed", RuntimeError(f"arm {job.arm.name}, seed {job.seed}: "
                                          f"{traceback.format_exc()}")))


def _receive(pipe: Connection, running: dict[Connection, tuple[Job, Any]]) -> tuple[str, Any]:
    """Return a message of a run; raise if the run failed."""
    try:
        kind, value = pipe.recv()
    except (EOFError, ConnectionResetError):
        job = running[pipe][0]
        kind, value = "failed", RuntimeError(f"arm {job.arm.name}, seed {job.seed}: its process "
                                             f"ended without a word")
    if kind == "failed":
        _end(running, pipe)
        raise value
    return kind, value


def _end(running: dict[Connection, tuple[Job, Any]], pipe: Connection) -> Job:
    job, process = running.pop(pipe)
    pipe.close()
    process.join()
    return job


def _stop(running: dict[Connection, tuple[Job, Any]],
          done: Callable[[Job, Outcome], None]) -> None:
    """Tell all runs to save and stop, and wait for them; one may finish meanwhile."""
    for pipe in running:
        with suppress(BrokenPipeError):       # it is done, and its last word is in the pipe
            pipe.send("stop")
    for pipe in list(running):
        kind = "step"
        while kind == "step":
            kind, value = _receive(pipe, running)
        job = _end(running, pipe)
        if kind == "done":
            done(job, value)
