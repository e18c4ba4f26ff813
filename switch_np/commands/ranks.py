"""One process that trains alone, or all ranks of an MPI run, of which the first prints."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np.commands.terminal import Signals, Stopped
from switch_np.model import Loss
from switch_np.parallel import all_reduce, formulas, mpi, trainer as over_ranks
from switch_np.parallel.mesh import Mesh, lay_out
from switch_np.training import selective, trainer
from switch_np.training.trainer import Run
from switch_np.transformer.model_config import ModelConfig


class Alone:
    """One process. `leads`: it writes and prints; `ends`: errors after which the run is saved."""

    leads = True
    ends: tuple[type[BaseException], ...] = (Stopped, FloatingPointError, OSError)

    def config(self, config: ModelConfig) -> ModelConfig:
        """Return the config of a new run."""
        return config

    def part(self, run: Run) -> Run:
        """Return this process's part of a whole run."""
        return run

    def whole(self, run: Run) -> Run:
        """Return the whole run again."""
        return run

    def advance(self, run: Run, corpus: Any) -> tuple[Loss, float]:
        """Take a step."""
        return trainer.advance(run, corpus)

    def evaluate(self, run: Run, data: Any) -> float:
        """Return the loss on held-out data."""
        return trainer.evaluate(run, data)

    def step(self, signals: Signals) -> AbstractContextManager[None]:
        """Let a signal wait for the end of a step."""
        return signals.whole()

    def anywhere(self, *flags: bool) -> tuple[bool, ...]:
        """Return which flags are up on any rank."""
        return flags

    def status(self) -> list[str]:
        """Return what the progress line adds."""
        return []


class Ranks(Alone):
    """One rank of several. An error on one ends all, so the run is saved after signals alone."""

    ends = (Stopped,)

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.leads = mesh, mesh.world.rank == 0
        self.sent = self.tokens = 0
        self.seconds = self.waited = self.formula = 0.0

    def config(self, config: ModelConfig) -> ModelConfig:
        """Make the tokens of each rank a group, as capacity is per rank."""
        if self.mesh.data.size == 1 or config.switch.groups != "all":
            return config
        return replace(config, switch=replace(config.switch, groups=self.mesh.data.size))

    def part(self, run: Run) -> Run:
        return over_ranks.cut(run, self.mesh)

    def whole(self, run: Run) -> Run:
        return over_ranks.whole(run, self.mesh)

    def advance(self, run: Run, corpus: Any) -> tuple[Loss, float]:
        traffic, begin = self.mesh.world.traffic, time.perf_counter()
        sent, waited = traffic.bytes.total(), traffic.seconds
        found = over_ranks.advance(run, corpus, self.mesh)
        loads: tuple[Any, ...] = found[0].plans
        self.formula += formulas.step((load.slots for load in loads), run.model_config.d_model,
                                      run.params, self.mesh, selective.width(run.config.dtype))
        self.sent += traffic.bytes.total() - sent
        self.waited += traffic.seconds - waited
        self.seconds += time.perf_counter() - begin
        self.tokens += run.config.batch_size * run.config.seq_len // self.mesh.data.size
        return found

    def evaluate(self, run: Run, data: Any) -> float:
        return over_ranks.evaluate(run, data, self.mesh)

    def step(self, signals: Signals) -> AbstractContextManager[None]:
        signals.hold()                     # the ranks stop together, once they have agreed
        return nullcontext()

    def anywhere(self, *flags: bool) -> tuple[bool, ...]:
        return tuple((all_reduce.forward(np.array(flags, int), self.mesh.world, "flags") > 0)
                     .tolist())

    def status(self) -> list[str]:
        return [f"sends {self.sent / self.tokens:,.0f} bytes/token "
                f"({self.formula / self.tokens:,.0f} by the paper's formulas)",
                f"waits {self.waited / self.seconds:.0%}"]


@contextmanager
def team(options: dict[str, Any]) -> Iterator[Alone]:
    """Hold this process's part in the run; remove the options that choose it."""
    shape, patience = options.pop("parallel", None), options.pop("patience", None)
    if shape is None:
        if patience is not None:
            raise ValueError(f"--patience must go with --parallel, got {patience} without")
        yield Alone()
        return
    world, (n, m) = mpi.connect(60.0 if patience is None else patience), shape
    if n * m != world.size:
        raise ValueError(f"--parallel {n}x{m} must be started on {n * m} ranks, by: mpiexec -n "
                         f"{n * m} python -m switch_np train --parallel {n}x{m}; got {world.size}")
    try:
        with open(os.devnull, "w") as nowhere:
            with redirect_stdout(nowhere) if world.rank else nullcontext():
                yield Ranks(lay_out(world, n, m))
    except BaseException as error:
        if world.size == 1:
            raise
        world.abort(f"{type(error).__name__}: {error}")
