"""The same problem under one other convention, another capacity or another layout of a weight.

Each suspect is the reference itself on a changed problem, so it works for every library. It is
slower than algebra and tried only when nothing simpler explains what came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np import switch_layer
from switch_np.conventions.table import CHOICES
from switch_np.oracle.explain.causes import Evidence, likeliest, planned
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.solution import Problem
from switch_np.switch.plan import Plan

FLAGS = ("capacity_whole_share", "renorm_single", "second_balance")


def recognise(evidence: Evidence) -> list[str]:
    """Return the changes under which what came is right, the likeliest first."""
    fits: dict[str, float] = {}
    for text, problem, renamed in changed_problems(evidence.ref):
        for plan, suspects in _computed(problem, evidence):
            if evidence.decides_so(plan.expert, plan.kept):
                suspects |= {f"d_{name}": suspects[f"d_{other}"] if name != other else
                             suspects[f"d_{name}"].swapaxes(-1, -2)
                             for name, other in renamed.items()}
                fits[text] = min(evidence.total(suspects), fits.get(text, np.inf))
    return likeliest(fits)


def _computed(problem: Problem, evidence: Evidence
              ) -> Iterator[tuple[Plan, dict[str, np.ndarray]]]:
    """Yield what a changed problem gives: with its own choices, and with those of the kernel."""
    p, plan = problem, evidence.truth.plan
    ways: list[Callable[[], Plan | None]] = []
    if evidence.replayed.given is None or not evidence.legal:
        ways.append(lambda: None)
    if evidence.legal and evidence.truth is not evidence.ref:
        ways.append(lambda: planned(p, plan))
    if not evidence.replayed.errors:         # wrong choices are to be explained, not replayed
        ways.append(lambda: planned(p, plan, plan.kept))
    for way in ways:
        try:
            out, cache = switch_layer.forward(p.params, p.x, p.config, plan=way(),
                                              padding=p.padding, noise=p.noise,
                                              training=p.training)
            d_x, grads = switch_layer.backward(p.d_y, cache, p.balance_coef, p.z_coef)
        except (TypeError, ValueError, IndexError):            # it asks for other parameters
            return
        yield out.plan, {"y": out.y, "balance_loss": np.asarray(out.balance_loss), "d_x": d_x,
                         "z_loss": np.asarray(out.z_loss)} | {
                             f"d_{name}": grad for name, grad in grads.items()}


def changed_problems(ref: Reference) -> Iterator[tuple[str, Problem, dict[str, str]]]:
    """Yield what was changed, the problem, and which parameters' gradients change places.

    A parameter that stands for itself there has its gradient transposed.
    """
    yield from _other_capacities(ref)
    yield from _other_layouts(ref.problem)
    yield from _other_conventions(ref.problem)


def _other_capacities(ref: Reference) -> Iterator[tuple[str, Problem, dict[str, str]]]:
    p = ref.problem
    if p.config.expert_capacity(len(ref.scores), p.training) is not None:
        for capacity in (ref.plan.capacity + 1, ref.plan.capacity - 1):
            if capacity >= 0:
                yield (f"as with {capacity} slots per expert, want {ref.plan.capacity}",
                       p._replace(config=replace(p.config, capacity=capacity)), {})


def _other_layouts(p: Problem) -> Iterator[tuple[str, Problem, dict[str, str]]]:
    for name, value in p.params.items():
        if value.ndim > 1 and value.shape[-1] == value.shape[-2]:
            turned = np.ascontiguousarray(value.swapaxes(-1, -2))
            yield (f"{name} is used transposed",
                   p._replace(params={**p.params, name: turned}), {name: name})
    if "w_gate" in p.params:
        swapped = {"w_gate": "w_in", "w_in": "w_gate"}
        yield ("w_gate and w_in are swapped", p._replace(params={
            name: p.params[swapped.get(name, name)] for name in p.params}), swapped)


def _other_conventions(p: Problem) -> Iterator[tuple[str, Problem, dict[str, str]]]:
    options: dict[str, Sequence[Any]] = {**CHOICES, **{name: (False, True) for name in FLAGS}}
    for name, values in options.items():
        now = getattr(p.config.conventions, name)
        for value in values:
            if value != now:
                try:
                    conventions = replace(p.config.conventions, **{name: value})
                    config = replace(p.config, conventions=conventions)
                except ValueError:                            # conventions that exclude each other
                    continue
                yield f"as with {name}={value!r}, want {now!r}", p._replace(config=config), {}
