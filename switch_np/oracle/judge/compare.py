"""Compare what a kernel gave with the truth, and say what is wrong.

The order is one in which a person would look: structure (missing, None, wrong shape, not finite),
routing, outputs, gradients; then the diagnosis. The kernel's own decisions are replayed, so that a
flip at a near-tie is one line of the report, not a thousand mismatches.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import SkipTest

import numpy as np

from switch_np.operations import adapters, check, signatures
from switch_np.operations.roundoff import QUARTER, named
from switch_np.oracle.explain import diagnosis, wording
from switch_np.oracle.judge import (
    blind_spots, judge_choices, kernel_tensors, of_rank, unreported_choices)
from switch_np.oracle.judge.report import Report
from switch_np.oracle.judge.tensor import TensorVerdict, tensor_verdict
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.solution import LOSSES


class NoVerdict(SkipTest):
    """Neither pass nor fail: pytest and unittest count the test as skipped, with the reason."""


@signatures.checked
def compare(ref: Reference, *, y: Any = None, balance_loss: Any = None, z_loss: Any = None,
            grads: Mapping[str, Any] | None = None, expert: Any = None, kept: Any = None,
            slot: Any = None, plan: Any = None, precision: str | Mapping[str, str] | None = None,
            complete: bool = False, rank: int | None = None) -> Report:
    """Judge a kernel's outputs and gradients against the reference.

    Parameters
    ----------
    ref
        From `reference`, for exactly the numbers that the kernel got.
    y, balance_loss, z_loss
        Its outputs, in any array library; what is not given is not judged.
    grads
        Its gradients, under the names of `ref.grads`. Per-expert ones may be a list of E arrays.
    expert, kept, slot, plan
        Its decisions, (T,), (T, K) or (B, S, K), or all of them as a `Plan` or a dict of the three:
        judged first, then replayed.
    precision
        "float64", "float32", "bfloat16" or "float16". Default: the coarsest dtype among y and the
        gradients, or that of the inputs where they are of half precision. A dict names the
        precision of single outputs, such as {"balance_loss": "float32", "choice": "float32"} for a
        router that computes in float32 beside experts in bfloat16.
    complete
        Demand y and every gradient.
    rank
        The rank, of a reference made with `ranks`, that gave everything: y, d_x and decisions are
        those of its tokens, d_w_in and d_w_out those of its experts, the other gradients sums over
        the ranks. The report numbers tokens and experts over all ranks.

    Examples
    --------
    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> ref = reference(**draw(SwitchConfig(num_experts=4), 12, d_model=8, d_ff=16))
    >>> compare(ref, y=ref.y, grads=ref.grads).ok
    True
    >>> wrong = ref.grads["w_router"] - ref.terms["w_router"]["balance"]
    >>> print(compare(ref, grads={"w_router": wrong}).diagnosis[0])
    d_w_router = 1.00·gate + 0.00·balance + 1.00·z: the balance loss does not reach the router
    """
    given = kernel_tensors.by_name(ref, y, balance_loss, z_loss, grads)
    ref, precision, notes = _judged_in(ref, given, precision)
    largest, peak = named(precision).largest, ref.rounding(precision).peak
    if not (peak <= QUARTER * largest and all(
            np.isfinite(values).all() for values in ref.sigma(precision).values())):
        return Report("out of range", precision, (), None, (), {}, (
            f"the computation reaches {peak:.3g}, more than a quarter of {largest:.6g}",), ref,
            not_judged=tuple(ref.outputs()))
    notes += _notes(ref)
    decisions = judge_choices.decisions(plan, expert, kept, slot)
    of_all = given
    if rank is not None:
        of_all, decisions = of_rank.whole(ref, rank, given, decisions)
    got, structure = kernel_tensors.collect(ref, of_all, complete, notes)
    if not (given or complete or decisions):
        raise ValueError("compare needs something to judge: y, balance_loss, z_loss, grads, expert "
                         "or plan, got none of them")
    if decisions and ref.problem.alone:
        raise ValueError("expert, kept, slot and plan must not be given: the reference of "
                         f"{ref.problem.alone} alone was given the choices")
    replayed = judge_choices.replayed(ref, decisions, got.get("y"), precision)
    truth = replayed.reference
    if rank is not None:
        got = of_rank.among(got, rank, truth, len(ref.ranks))
    notes += replayed.notes
    sigma = truth.sigma(precision)
    verdicts = _verdicts(got, truth, sigma)
    verdict = "pass" if all(tensor.ok for tensor in verdicts.values()) else "fail"
    if structure or replayed.errors:
        verdict = "fail"
    elif verdict == "fail" and replayed.unsure:
        verdict, verdicts = _allow_flips(got, truth, precision, verdicts, notes)
    return Report(verdict, precision, tuple(structure), replayed.routing, tuple(replayed.errors),
                  verdicts, tuple(notes), truth,
                  partial(diagnosis.diagnose, ref, got, verdicts, precision, replayed, rank),
                  blind_spots.unmet_capacity(ref, verdicts)
                  | blind_spots.unseen(truth, verdicts, sigma)
                  | blind_spots.coarser_than_given(ref, given, got, replayed, precision),
                  tuple(name for name in truth.outputs() if name not in given
                        and not (complete and name not in LOSSES)))


def _judged_in(ref: Reference, given: Mapping[str, Any], asked: str | Mapping[str, str] | None
               ) -> tuple[Reference, str, list[str]]:
    """Return the reference with precisions for single outputs, the rest's precision, and notes.

    The rest is judged in the coarsest precision of y and the gradients; a loss does not count.
    """
    if isinstance(asked, str):
        return ref, asked, []
    large = [value for name, value in given.items() if name not in LOSSES]
    rest = ref.precision if ref.precision in ("float16", "bfloat16") else (
        adapters.precision_of(*large) or adapters.precision_of(*given.values()) or ref.precision)
    if asked is not None:
        check.instance("precision", asked, Mapping)
    if not asked:
        finer = [name for name, value in given.items()
                 if (came := adapters.precision_of(value)) and adapters.is_finer(came, rest)]
        why = "the inputs' precision" if ref.precision == rest else "the coarsest one given"
        return ref, rest, [f"judged in {rest}, {why}; {', '.join(finer)} came in a finer one: pass "
                           "precision={name: ...} to judge it there"] if finer else []
    for name, own in asked.items():
        check.choice("precision's key", name, ["choice", *ref.outputs()])
        named(own)
    single = {"scores" if name == "choice" else name: kind for name, kind in asked.items()}
    return replace(ref, judged_in=single), rest, [f"judged in {rest}, but " + ", ".join(
        f"{name} in {kind}" for name, kind in asked.items()) + ", as asked"]


def _verdicts(got: Mapping[str, np.ndarray], truth: Reference,
              sigma: Mapping[str, np.ndarray]) -> dict[str, TensorVerdict]:
    wanted = truth.outputs()
    return {name: tensor_verdict(name, value, wanted[name], sigma[name], truth)
            for name, value in got.items() if np.isfinite(value).all()}


def _allow_flips(got: Mapping[str, np.ndarray], truth: Reference, precision: str,
                 strict: dict[str, TensorVerdict], notes: list[str]
                 ) -> tuple[str, dict[str, TensorVerdict]]:
    """Judge again with a sigma that allows for any legal choice at near-ties."""
    sigma = truth.sigma(precision)
    spread = unreported_choices.spread(truth, judge_choices.tau(truth, precision))
    lenient = _verdicts(got, truth, {name: np.hypot(sigma[name], moved)
                                     for name, moved in spread.items()})
    if all(tensor.ok for tensor in lenient.values()):
        return "undecided", strict
    notes.append("sigma allows for any legal flip, since the kernel did not say what it chose at "
                 "near-ties; pass expert= for a sharper verdict")
    return "fail", lenient


def assert_matches(ref: Reference, **got: Any) -> None:
    """Compare, with the arguments of `compare`, and raise where the kernel is wrong.

    Raises
    ------
    AssertionError
        With the report.
    NoVerdict
        Where the report is neither pass nor fail; test runners count that as skipped.
    """
    __tracebackhide__ = True
    report = compare(ref, **got)
    if report.verdict == "fail":
        raise AssertionError(str(report))
    if not report.ok:
        raise NoVerdict(str(report))


def _notes(ref: Reference) -> list[str]:
    """Return notes on why the problem tests less than it seems to."""
    p, notes = ref.problem, []
    if p.d_y.size > 1 and (p.d_y == p.d_y.flat[0]).all() and p.d_y.any():
        notes.append("d_y is constant: a permuted batch would give the same weight gradients")
    coefs = {"balance": p.balance_coef, "z": p.z_coef}
    return notes + [f"{loss}_coef={coefs[loss]:g} has no effect: {why}"
                    for loss, why in wording.silent(p).items() if coefs[loss]]
