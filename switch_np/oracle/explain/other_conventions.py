"""The same problem under one other convention, another capacity or another layout of a weight.

Each suspect is the reference itself on a changed problem, so this works for every library. It is
slower than algebra, and is tried only when nothing simpler explains the numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np.conventions.table import CHOICES
from switch_np.oracle.explain.causes import Evidence, likeliest
from switch_np.oracle.truth.reference import Reference, planned
from switch_np.oracle.truth.solution import Problem
from switch_np.switch.plan import Plan

Change = tuple[str, Problem, dict[str, str | None]]          # see `changed_problems`
FLAGS = ("capacity_whole_share", "renorm_single", "second_balance", "shared_average")
# Of numbers, those that libraries have, and those that a forgotten one becomes.
NUMBERS: dict[str, tuple[Any, ...]] = {
    "expert_limit": (None, 0.0, 7.0), "expert_linear_offset": (0.0, 1.0),
    "expert_silu_factor": (1.0, 1.702), "shared_limit": ("same", None),
    "balance_groups": (1, 2, 4, 8)}


def recognise(evidence: Evidence) -> list[str]:
    """Return the changes under which the kernel is right, the likeliest first."""
    fits: dict[str, float] = {}
    for text, problem, renamed in changed_problems(evidence.ref):
        for plan, suspects in _computed(problem, evidence):
            if evidence.decides_so(plan.expert, plan.kept):
                suspects |= {f"d_{name}": suspects[f"d_{other}"] if name != other else
                             suspects[f"d_{name}"].swapaxes(-1, -2)
                             for name, other in renamed.items() if other}
                for name in (name for name, other in renamed.items() if other is None):
                    del suspects[f"d_{name}"]
                if evidence.failed and not evidence.failed & suspects.keys():
                    continue                          # none of what failed would be compared
                fits[text] = min(evidence.total(suspects), fits.get(text, np.inf))
    return likeliest(fits)


def _computed(problem: Problem, evidence: Evidence
              ) -> Iterator[tuple[Plan, dict[str, np.ndarray]]]:
    """Yield a changed problem's numbers: under its own choices, and under the kernel's."""
    plan, replayed = evidence.truth.plan, evidence.replayed
    ways: list[tuple[Plan | None, np.ndarray | None]] = []
    if not problem.alone and (replayed.given is None or not evidence.legal):
        ways.append((None, None))
    if evidence.legal and evidence.truth is not evidence.ref:
        ways.append((plan, None))
    if not replayed.errors:                  # wrong choices are explained, not replayed
        ways.append((plan, plan.kept))
    for own, kept_TK in ways:
        try:
            found = evidence.given_by(problem, own and planned(problem, own, kept_TK))
        except (TypeError, ValueError, IndexError):            # it asks for other parameters
            return
        if found:
            yield found


def changed_problems(ref: Reference) -> Iterator[Change]:
    """Yield what was changed, the problem, and which parameters' gradients change places.

    A parameter mapped to itself has its gradient transposed; one mapped to None is not compared.
    """
    p = ref.problem
    if not p.alone and p.limited:
        now, k = ref.plan.capacity, p.config.top_k
        for capacity in (now + 1, now - 1, now * k, now // k):
            if 0 <= capacity != now:
                yield (f"computed with {capacity} slots per expert, want {now}",
                       p._replace(config=replace(p.config, capacity=capacity)), {})
    for text, changed, renamed in _other_layouts(p.params):
        yield text, p._replace(params={**p.params, **changed}), dict.fromkeys(changed) | renamed
    if p.whole:
        yield from _other_conventions(p)


def _other_layouts(params: Mapping[str, np.ndarray]
                   ) -> Iterator[tuple[str, dict[str, np.ndarray], dict[str, str]]]:
    """Yield what was changed, the changed parameters, and those whose gradients change places."""
    for name, value in params.items():
        if value.ndim > 1 and value.shape[-1] == value.shape[-2]:
            turned = np.ascontiguousarray(value.swapaxes(-1, -2))
            yield f"{name} is used transposed", {name: turned}, {name: name}
        elif value.ndim > 1:
            reshaped = value.swapaxes(-1, -2).reshape(value.shape)
            yield f"{name} is reshaped where it should be transposed", {name: reshaped}, {}
        if value.ndim == 3 and len(value) > 1:
            first = np.repeat(value[:1], len(value), axis=0)
            yield f"{name} of expert 0 is used for all experts", {name: first}, {}
        if name in ("b_in", "b_gate", "b_router", "shared_b_out") and value.any():
            yield f"{name} is left out", {name: 0 * value}, {}
    for one, other in (("w_gate", "w_in"), ("b_gate", "b_in"), ("shared_w_gate", "shared_w_in")):
        if one in params:
            gate, linear = params[one], params[other]
            yield f"{one} and {other} are swapped", {one: linear, other: gate}, {
                one: other, other: one}
            for how, wrong_gate, wrong_linear in _fusions(gate, linear):
                yield f"the fused {one} and {other} are {how}", {
                    one: wrong_gate, other: wrong_linear}, {}


def _fusions(gate: np.ndarray, linear: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield wrong ways to split the fused weight of the gate and up projections."""
    f, both = gate.shape[-1], np.concatenate([gate, linear], axis=-1)
    yield "interleaved, want halves", both[..., ::2], both[..., 1::2]
    woven, turned = np.stack([gate, linear], axis=-1).reshape(both.shape), both.swapaxes(-1, -2)
    yield "halves, want interleaved", woven[..., :f], woven[..., f:]
    if turned.shape == both.shape:
        yield "used untransposed", turned[..., :f], turned[..., f:]


def _other_conventions(p: Problem) -> Iterator[Change]:
    options: dict[str, Sequence[Any]] = {
        **CHOICES, **{name: (False, True) for name in FLAGS}, **NUMBERS}
    for name, values in options.items():
        now = getattr(p.config.conventions, name)
        for value in values:
            if value != now:
                try:
                    conventions = replace(p.config.conventions, **{name: value})
                    config = replace(p.config, conventions=conventions)
                except ValueError:                            # conventions that exclude each other
                    continue
                yield (f"computed with {name}={value!r}, want {now!r}", p._replace(config=config),
                       {})
