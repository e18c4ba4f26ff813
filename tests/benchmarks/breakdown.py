"""Our training step, operation by operation, each against its own bare products."""

import importlib
import time
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any

import numpy as np

from benchmarks import bare_products, ours, timing
from benchmarks.problems import StepSize
from switch_np.operations import threads

TRANSFORMER = ("embedding", "position_bias", "norm", "attention", "dense", "head", "cross_entropy")
SWITCH = ("layer", "router", "gates", "dispatch", "experts", "combine", "balance_loss", "z_loss")
# Functions of switch_np; the time of one that another calls is counted as its own.
OPERATIONS = [
    "conventions.arguments:checked", "conventions.noise:noise_for", "switch.layer:decide",
    *(f"transformer.{name}:{phase}" for name in TRANSFORMER for phase in ("forward", "backward")),
    *(f"switch.{name}:{phase}" for name in SWITCH for phase in ("forward", "backward")),
    "training.optimizer:clip", "training.optimizer:step",
]
REST = "the rest"


class Clock:
    """Gives each moment to the innermost timed function that runs, or to the rest."""

    def __init__(self) -> None:
        self.seconds = {REST: 0.0}
        self.operation, self.since = REST, time.perf_counter()

    def measure(self, work: Callable[[], Any]) -> list[float]:
        """Return the seconds of one call by operation, in the order of `seconds`."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        self.since = time.perf_counter()
        work()
        self.enter(REST)
        return list(self.seconds.values())

    def enter(self, operation: str) -> None:
        """Give the time until now to the operation that ran, and what comes to this one."""
        now = time.perf_counter()
        self.seconds[self.operation] += now - self.since
        self.operation, self.since = operation, now

    def timed(self, function: Callable[..., Any], operation: str) -> Callable[..., Any]:
        """Return the function, its time counted as this operation's."""
        self.seconds[operation] = 0.0

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            caller = self.operation
            self.enter(operation)
            try:
                return function(*args, **options)
            finally:
                self.enter(caller)

        return call


def by_operation(sizes: Mapping[str, StepSize], rounds: int) -> list[dict[str, Any]]:
    """Return a row per size and operation, the last of a size the whole step.

    `share` is of the whole. `products` and what follows are for operations of matrix products.
    To be called once in a process, whose functions are timed from then on.
    """
    clock, rows = Clock(), []
    for operation in OPERATIONS:
        module, name = operation.split(":")
        owner = importlib.import_module(f"switch_np.{module}")
        setattr(owner, name, clock.timed(getattr(owner, name), operation))
    for size in sizes:
        step, products = measured(clock, sizes[size], rounds)
        whole = sum(step.values())
        for operation, seconds in (step | {"all": whole}).items():
            row = {"size": size, "operation": operation, "ms": 1000 * np.median(seconds),
                   "share": np.median(seconds / whole)}
            if operation in products:
                row["products"] = 1000 * np.median(products[operation])
                row |= timing.ratio("to products", seconds, products[operation])
            rows.append(row)
    return rows


def measured(clock: Clock, size: StepSize, rounds: int
             ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return each round's seconds of our step by operation, and of the operations' products."""
    run, products, work = ours.step(size).run, Clock(), []
    for operation, both in bare_products.by_operation(size).items():
        for phase, groups in both._asdict().items():
            work.append(partial(products.timed(bare_products.multiply, f"{operation}:{phase}"),
                                bare_products.deal(groups, threads.count())))
    found = timing.take_turns({
        clock: partial(timing.median, lambda: clock.measure(run)),
        products: partial(timing.median, lambda: products.measure(lambda: [do() for do in work]))},
        rounds)
    step, least = (dict(zip(each.seconds, found[each].T)) for each in (clock, products))
    del least[REST]
    return step, least
