"""What a comparison cannot see: an unused limit, or terms of a gradient below a kernel's rounding.

A term is unseen if every given tensor that contains it would pass without it. That happens to
the losses' terms where their coefficients are small beside d_y and the precision is coarse.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from switch_np.operations.adapters import is_finer, precision_of
from switch_np.oracle.judge.choices import FLIP
from switch_np.oracle.judge.judge_choices import Replayed, routing_of, tau
from switch_np.oracle.judge.tensor import tensor_verdict
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.solution import LOSSES

APART = {"balance": "d_y=None", "z": "d_y=None", "gate": "balance_coef=0 and z_coef=0",
         "experts": "balance_coef=0 and z_coef=0"}


def unseen(truth: Reference, names: Iterable[str],
           sigma: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the terms whose absence would pass, each with a sentence that says so.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> asked = draw(SwitchConfig(num_experts=2), 8, d_model=4, d_ff=6) | {"z_coef": 1e-9}
    >>> ref = reference(**asked)
    >>> list(unseen(ref, ["d_w_router"], ref.sigma("float32")))
    ['the z term']
    """
    wanted, names = truth.outputs(), list(names)
    found = _nothing({name: wanted[name] for name in names})
    for term, apart in APART.items():
        without = {name: wanted[name] - terms[term] for name in names
                   if len(terms := truth.terms.get(name[2:], {})) > 1
                   and term in terms and terms[term].any()}
        verdicts = [tensor_verdict(name, value, wanted[name], sigma[name], truth)
                    for name, value in without.items()]
        if verdicts and all(verdict.ok for verdict in verdicts):
            largest = max(verdicts, key=lambda verdict: verdict.worst)
            found[f"the {term} term"] = (
                f"the {term} term is at most {largest.worst:.2g} sigma, in {largest.name}: its "
                f"absence would pass; compare once more with {apart}")
    return found


def _nothing(wanted: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return what must be 0 throughout, where a kernel that computes nothing would pass."""
    found = {}
    if "y" in wanted and wanted["y"].size and not wanted["y"].any():
        found["y"] = "y must be 0 throughout, since no token is kept: computing nothing would pass"
    grads = [value for name, value in wanted.items() if name.startswith("d_") and value.size]
    if grads and not any(value.any() for value in grads):
        found["every gradient"] = ("every gradient given must be 0 throughout: computing nothing "
                                   "would pass; compare once more with a random d_y")
    return found


def unmet_capacity(ref: Reference, names: Iterable[str]) -> dict[str, str]:
    """Return a sentence where no token is dropped, though there is a limit."""
    problem, plan = ref.problem, ref.plan
    could_drop = not problem.alone and problem.limited and plan.load.any()
    if not could_drop or plan.dropped_fraction or not {*names} - {*LOSSES}:
        return {}
    return {"the capacity": (
        "no token is dropped: another capacity or order of service, or none, would pass; compare "
        "once more where experts are full, as with capacity_factor=1.0")}


def coarser_than_given(ref: Reference, given: Mapping[str, Any], got: Mapping[str, np.ndarray],
                       replayed: Replayed, precision: str) -> dict[str, str]:
    """Return what was given in a finer precision than this one but is right only in this one.

    A router in half precision whose losses are then stored in float32 explains it; so may a bug,
    such as other counts in the balance loss or a rounded bias.
    """
    truth, found = replayed.reference, {}
    for name in LOSSES:
        came = precision_of(given.get(name))
        if name in got and np.isfinite(got[name]) and came and is_finer(
                came, truth.judged_in.get(name, precision)):
            want, sigma = truth.outputs()[name], truth.sigma(came)[name]
            finer = tensor_verdict(name, got[name], want, sigma, truth)
            if not finer.ok:
                found[f"{name} beyond {precision}"] = (
                    f"{name} was given in {came} and is off by {finer.worst:.3g} sigma in {came}; "
                    f"pass precision={{{name!r}: {came!r}}} if the router computes in {came}")
    came, routing = ref.bias_precision, replayed.routing
    if routing is None and truth.plan is not ref.plan:          # choices inferred from y
        routing = routing_of(ref, truth.plan.expert, tau(ref, precision))
    if came and routing is not None and is_finer(came, truth.judged_in.get("scores", precision)):
        flips = np.flatnonzero(routing.status == FLIP)     # without any, no sigma is worked out
        if flips.size and (beyond := np.count_nonzero(routing.gap[flips] > tau(ref, came)[flips])):
            found[f"choices beyond {precision}"] = (
                f"select_bias was given in {came}, in which {beyond} flips are wrong; pass "
                f"precision={{'choice': {came!r}}} if the router computes in {came}")
    return found
