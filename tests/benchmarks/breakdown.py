"""Layer and training step by operation, and what each operation could cost at least.

The limit of an operation of products is its products (`floor`); that of one that moves numbers is
the time in which `np.copyto` reads and writes as many bytes, on arrays of that size, so that what
lies in a cache for the one does so for the other. Where neither says much, there is none.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import cases, floor, operations, ours, products
from benchmarks.clock import Clock
from benchmarks.subject import Subject
from switch_np import model as models
from switch_np.operations import tree


def layer(**sizes: Any) -> Subject:
    """Return our layer, timed by operation."""
    return _by_operation(ours.layer(**sizes), "LAYER")


def step(**sizes: Any) -> Subject:
    """Return our training step, timed by operation."""
    return _by_operation(ours.step(**sizes), "STEP")


@functools.cache
def clock_of(name: str) -> Clock:
    """Return this process's clock, once installed in the functions that `operations` lists."""
    clock = Clock()
    clock.install(getattr(operations, name))
    return clock


def _by_operation(whole: Subject, name: str) -> Subject:
    clock = clock_of(name)

    def timed() -> dict[str, float]:
        clock.begin()
        whole.step()
        return clock.end()

    return Subject(timed, dict, by_part=True)


def layer_limits(**sizes: Any) -> Subject:
    """Return the limits of the layer's operations, timed."""
    case = cases.layer(**sizes)
    _, plan = cases.layer_step(case)
    least = {"router": products.of(case.x, case.params["w_router"]),
             "experts": floor.experts(case.x, case.params["w_in"], case.params["w_out"], plan)}
    rows = len(plan.token) * case.x.shape[1] * case.x.itemsize
    return _limits(least, _moved(rows, case.x.nbytes))


def step_limits(**sizes: Any) -> Subject:
    """Return the limits of the training step's operations, timed."""
    case = cases.model(**sizes)
    config, size = case.config, 4
    tokens = case.batch.inputs.size
    stream = tokens * config.d_model * size
    logits = tokens * config.vocab_size * size
    bias = config.num_heads * case.batch.inputs.shape[1] ** 2 * size
    params = sum(value.nbytes for value in tree.flatten(case.params).values())
    plans = models.loss(case.params, case.batch, config, training=True).plans
    rows = sum(len(plan.token) for plan in plans) * config.d_model * size
    norms = 2 * config.num_layers + 1
    return _limits(floor.by_operation(case), {
        **_moved(rows, len(plans) * stream),
        "embedding forward": 2 * stream, "embedding backward": stream,
        "position bias forward": bias, "position bias backward": bias,
        "norm forward": norms * 2 * stream, "norm backward": norms * 3 * stream,
        "cross-entropy forward": 2 * logits, "cross-entropy backward": 2 * logits,
        "clip update": 3 * params,              # the norm reads; scaling reads and writes
        "optimizer update": 7 * params})        # reads four arrays, writes three


def _moved(rows: int, stream: int) -> dict[str, int]:
    """Return the bytes that dispatch and combine read and write."""
    return {"dispatch forward": 2 * rows, "dispatch backward": rows + stream,
            "combine forward": rows + stream, "combine backward": 3 * rows}


def _limits(least: dict[str, products.Both], moved: dict[str, int]) -> Subject:
    runner = products.Runner()
    timed: dict[str, Callable[[], float]] = {}
    for operation, both in least.items():
        for phase, groups in zip(("forward", "backward"), both):
            timed[f"{operation} {phase}"] = lambda groups=groups: runner.seconds(groups)
    timed |= {part: copy_of(moved[part]) for part in moved}
    return Subject(lambda: {part: run() for part, run in timed.items()}, dict, by_part=True)


def copy_of(moved: int) -> Callable[[], float]:
    """Return a function that copies so that so many bytes are read or written; it says how long.

    >>> copy_of(1000)() > 0
    True
    """
    source = np.ones(max(moved // 8, 1), np.float32)
    target = np.empty_like(source)

    def run() -> float:
        begin = time.perf_counter()
        np.copyto(target, source)
        return time.perf_counter() - begin

    return run
