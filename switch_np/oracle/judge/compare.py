"""Compare what a kernel gave with the truth, and say what is wrong.

The order is that in which a person would look: structure (missing, None, wrong shape, not finite),
routing, outputs, gradients; then the diagnosis. The kernel's own decisions are replayed, so that a
flip at a near-tie is a line of the report and not a thousand mismatches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from unittest import SkipTest

import numpy as np

from switch_np.operations import check
from switch_np.oracle.explain import diagnosis, wording
from switch_np.oracle.judge import blind_spots, judge_choices, kernel_tensors, near_ties
from switch_np.oracle.judge.choices import RoutingReport
from switch_np.oracle.judge.tensor import TensorVerdict, tensor_verdict
from switch_np.oracle.truth import adapters
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.roundoff import QUARTER, named

HALVES = ("float16", "bfloat16")
LOSSES = ("balance_loss", "z_loss")


class NoVerdict(SkipTest):
    """Neither pass nor fail: pytest and unittest count the test as skipped, with the reason."""


@dataclass(frozen=True, eq=False)
class Report:
    """What `compare` found; `str()` is for people, `to_dict()` for programs.

    Attributes
    ----------
    verdict
        "pass", "fail", "out of range" (a number on the way exceeds a quarter of what the precision
        can hold) or "undecided" (near-ties, and the kernel did not say how it took them).
    precision
        By which the errors were measured.
    structure, routing_errors
        What is missing, None, of the wrong shape or not finite; wrong decisions.
    routing
        The verdict on the experts; None where they were not handed in.
    tensors
        The verdicts on what was handed in.
    notes
        What is no failure, and worth knowing.
    unseen
        What could not be seen, as terms of gradients whose absence would pass, each with a
        sentence that says so.
    reference
        The reference under the kernel's own decisions.
    find
        Finds what explains the failures; `diagnosis` calls it when it is first asked for.
    """

    verdict: str
    precision: str
    structure: tuple[str, ...]
    routing: RoutingReport | None
    routing_errors: tuple[str, ...]
    tensors: dict[str, TensorVerdict]
    notes: tuple[str, ...]
    reference: Reference
    find: Callable[[], list[str]] = field(default=list, repr=False)
    unseen: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def diagnosis(self) -> tuple[str, ...]:
        """What explains the failures, the likeliest first."""
        return tuple(self.find()) if self.verdict == "fail" else ()

    @property
    def not_judged(self) -> tuple[str, ...]:
        """Names of the tensors that were not handed in."""
        broken = " ".join(self.structure)
        return tuple(name for name in self.reference.outputs()
                     if name not in self.tensors and f"{name} " not in f"{broken} ")

    @property
    def ok(self) -> bool:
        """Whether everything handed in is right."""
        return self.verdict == "pass"

    def __str__(self) -> str:
        count = len(self.tensors)
        blind = f", blind to {' and '.join(self.unseen)}" if self.unseen else ""
        lines = [f"{self.verdict}{blind}: {count} tensor{'s' * (count != 1)} in {self.precision}, "
                 f"{self.reference!r}"]
        lines += [f"  cause      {text}" for text in self.diagnosis[:3]]
        lines += [f"  structure  {text}" for text in self.structure]
        if self.routing is not None and self.routing.ok:
            lines.append(f"  routing    {self.routing}")
        lines += [f"  routing    {text}" for text in self.routing_errors]
        lines += [f"  numbers    {_numbers(tensor, self.reference)}"
                  for tensor in self.tensors.values() if not tensor.ok]
        right = [name for name, tensor in self.tensors.items() if tensor.ok]
        if right:
            worst = max(self.tensors[name].worst for name in right)
            lines.append(f"  right      {', '.join(right)} (worst {worst:.2g} sigma)")
        if self.not_judged:
            lines.append(f"  not judged {', '.join(self.not_judged)}")
        lines += [f"  unseen     {text}" for text in self.unseen.values()]
        return "\n".join(lines + [f"  note       {text}" for text in self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        routing = None if self.routing is None else {
            "status": self.routing.status.tolist(), "gap": _finite(self.routing.gap),
            "tau": _finite(self.routing.tau)}
        return {"verdict": self.verdict, "precision": self.precision,
                "structure": list(self.structure), "routing": routing,
                "routing_errors": list(self.routing_errors),
                "tensors": {name: {"ok": t.ok, "worst": _finite(t.worst), "rms": _finite(t.rms),
                                   "at": list(t.at), "got": t.got, "want": t.want,
                                   "blocks": list(t.blocks)} for name, t in self.tensors.items()},
                "diagnosis": list(self.diagnosis), "notes": list(self.notes),
                "not_judged": list(self.not_judged), "unseen": dict(self.unseen)}


def compare(ref: Reference, *, y: Any = None, balance_loss: Any = None, z_loss: Any = None,
            grads: Mapping[str, Any] | None = None, expert: Any = None, kept: Any = None,
            slot: Any = None, plan: Any = None, precision: str | None = None,
            complete: bool = False) -> Report:
    """Judge a kernel's outputs and gradients against the reference.

    Parameters
    ----------
    ref
        From `reference`, of the very numbers that the kernel got.
    y, balance_loss, z_loss
        What it gave, of any array library; what is not handed in is not judged.
    grads
        Its gradients, under the names of `ref.grads`. Per-expert ones may be a list of E arrays.
    expert, kept, slot
        Its decisions, (T,), (T, K) or (B, S, K): judged first, then replayed.
    plan
        The same as one value: a `Plan`, or a dict of the three.
    precision
        "float64", "float32", "bfloat16" or "float16". Default: the coarsest dtype among y and the
        gradients, or that of the inputs where they are of half precision.
    complete
        Demand y and every gradient.

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
    check.instance("ref", ref, Reference)
    given = kernel_tensors.by_name(ref, y, balance_loss, z_loss, grads)
    precision = _precision(ref, given) if precision is None else precision
    kind = named(precision)
    notes = _notes(ref)
    peak = ref.rounding(precision).peak
    if not (peak <= QUARTER * kind.largest and all(
            np.isfinite(values).all() for values in ref.sigma(precision).values())):
        return Report("out of range", precision, (), None, (), {}, (
            f"the computation reaches {peak:.3g}, more than a quarter of {kind.largest:.6g}",), ref)
    got, structure = kernel_tensors.collect(ref, given, complete, notes)
    decisions = judge_choices.decisions(plan, expert, kept, slot)
    if not (given or complete or decisions):
        raise ValueError("compare needs something to judge: y, balance_loss, z_loss, grads, expert "
                         "or plan, got none of them")
    replayed = judge_choices.replayed(ref, decisions, got.get("y"), precision)
    truth = replayed.reference
    notes += replayed.notes
    sigma = truth.sigma(precision)
    verdicts = _verdicts(got, truth, sigma)
    failed = not _all_right(verdicts)
    wrong = bool(structure or replayed.errors)
    verdict = "fail" if failed or wrong else "pass"
    if failed and not wrong and replayed.unsure:
        spread = near_ties.spread(truth, judge_choices.tau(truth, precision))
        lenient = _verdicts(got, truth, {name: np.hypot(sigma[name], moved)
                                         for name, moved in spread.items()})
        if _all_right(lenient):
            verdict = "undecided"
        else:
            verdicts = lenient
            notes.append("sigma allows for any legal flip, since the kernel did not say what it "
                         "chose at near-ties; hand in expert= for a sharper judgement")
    return Report(verdict, precision, tuple(structure), replayed.routing, tuple(replayed.errors),
                  verdicts, tuple(notes), truth,
                  partial(diagnosis.diagnose, ref, got, verdicts, precision, replayed),
                  blind_spots.unseen(truth, verdicts, sigma)
                  | blind_spots.coarser_than_given(ref, given, got, replayed, precision))


def _precision(ref: Reference, given: Mapping[str, Any]) -> str:
    """Return the coarsest precision of y and the gradients; a scalar loss does not loosen them."""
    if ref.precision in HALVES:
        return ref.precision
    large = [value for name, value in given.items() if name not in LOSSES]
    return (adapters.precision_of(*large) or adapters.precision_of(*given.values())
            or ref.precision)


def _verdicts(got: Mapping[str, np.ndarray], truth: Reference,
              sigma: Mapping[str, np.ndarray]) -> dict[str, TensorVerdict]:
    wanted = truth.outputs()
    return {name: tensor_verdict(name, value, wanted[name], sigma[name], truth)
            for name, value in got.items() if np.isfinite(value).all()}


def _all_right(verdicts: Mapping[str, TensorVerdict]) -> bool:
    return all(verdict.ok for verdict in verdicts.values())


def assert_matches(ref: Reference, **got: Any) -> None:
    """Do as `compare` does, with the same arguments; raise where the kernel is wrong.

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
    """Return what makes the problem itself less of a test than it seems."""
    p, notes = ref.problem, []
    if p.d_y.size > 1 and (p.d_y == p.d_y.flat[0]).all() and p.d_y.any():
        notes.append("d_y is constant: a permuted batch would give the same weight gradients")
    coefs = {"balance": p.balance_coef, "z": p.z_coef}
    return notes + [f"{loss}_coef={coefs[loss]:g} has no effect: {why}"
                    for loss, why in wording.silent(p).items() if coefs[loss]]


def _numbers(tensor: TensorVerdict, ref: Reference) -> str:
    """Return what is wrong with a tensor, in as many digits as tell its worst element apart."""
    digits = next(n for n in range(6, 18)
                  if n == 17 or f"{tensor.got:.{n}g}" != f"{tensor.want:.{n}g}")
    want = "exactly 0" if np.isinf(tensor.worst) else f"{tensor.want:.{digits}g}"
    only = f"; only {wording.listed(tensor.blocks, ref)}" if tensor.blocks else ""
    return (f"{tensor.name}: FAIL, worst {tensor.worst:.3g} sigma, rms {tensor.rms:.3g}, at "
            f"{list(tensor.at)}{tensor.where}: got {tensor.got:.{digits}g}, want {want}{only}")


def _finite(value: Any) -> Any:
    """Return numbers that JSON knows: infinity becomes 1e300."""
    return np.clip(np.nan_to_num(value, posinf=1e300), -1e300, 1e300).tolist()
