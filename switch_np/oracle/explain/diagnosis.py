"""Find what explains wrong numbers.

Each explanation is a small family of tensors made from the reference; it is given where one member
explains what came, as `causes` says: much better than the truth does, and without contradicting
what is right. First the algebra, tensor by tensor: a term missing or scaled, a factor, a factor per
expert, rows in another order, a transpose. Then the museum of known bugs, and other readings of the
problem, each of which gives all tensors at once. What explains every failing tensor comes first;
"or:" marks what fits about as well as the line before, "unknown" what nothing explains.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from switch_np.oracle.explain import algebra, museum, other_conventions, rows
from switch_np.oracle.explain.causes import Evidence
from switch_np.oracle.explain.wording import VAGUE, summary
from switch_np.oracle.judge.judge_choices import Replayed
from switch_np.oracle.judge.tensor import TensorVerdict, deviations, expert_axis, tensor_verdict
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.roundoff import PRECISIONS, QUARTER

FAMILIES = (algebra.not_zero, algebra.one_term, algebra.scaled, algebra.several_terms,
            algebra.scaled_per_expert, rows.lost_rows, rows.moved_rows, rows.moved_experts,
            rows.transposed, rows.other_outputs, rows.undropped)


@np.errstate(all="ignore")                     # a suspect may overflow, and is none then
def diagnose(ref: Reference, got: dict[str, np.ndarray], tensors: dict[str, TensorVerdict],
             precision: str, replayed: Replayed) -> list[str]:
    """Return explanations, the likeliest first; never empty where a tensor or a decision is wrong.

    `ref` is the reference as it was handed in; `replayed` has the one under the kernel's decisions.
    """
    failed = [name for name, tensor in tensors.items() if not tensor.ok]
    evidence = Evidence(ref, replayed, {name: got[name] for name in tensors}, frozenset(failed),
                        precision)
    found, unexplained = _not_finite(got, replayed.reference), []
    for name in failed:
        text = next(explanations(name, evidence), None)
        if text is None:
            unexplained.append(name)
        elif text not in found:
            found.append(text)
    if not (replayed.errors or failed):
        return found          # what is missing, misshapen or no number fits every bug in the museum
    known = museum.recognise(evidence)
    if not known and (unexplained or replayed.errors):
        known = other_conventions.recognise(evidence)
    if replayed.errors:
        return known + [error.partition(";")[0] for error in replayed.errors] + found
    if known:
        vague = unexplained or any(VAGUE in text for text in found)
        return known if vague or not found else found + known
    return found + _coarser(unexplained, evidence) + [
        f"unknown: {summary(tensors[name], evidence.truth)}" for name in unexplained]


def _coarser(names: list[str], evidence: Evidence) -> list[str]:
    """Return the precision whose errors these tensors have, where there is a coarser one."""
    def error(name: str, unit: np.ndarray | float) -> float:
        z = deviations(evidence.got[name], evidence.want[name], unit)
        return float(np.sqrt(np.mean(z ** 2)))

    order = list(PRECISIONS)
    for kind in [PRECISIONS[name] for name in order[order.index(evidence.precision) + 1:]]:
        # Much smaller errors would pass too, but are not of its making.
        if not names or any(error(name, kind.store * np.abs(evidence.want[name]).max()) < 1e-3
                            for name in names):
            continue
        rounding = evidence.truth.rounding(kind.name)
        if rounding.peak <= QUARTER * kind.largest and all(
                error(name, rounding.sigma[name]) > 0.1 and tensor_verdict(
                    name, evidence.got[name], evidence.want[name], rounding.sigma[name],
                    evidence.truth).ok for name in names):
            like = " or TF32" if kind.name == "float16" else ""
            return [f"{', '.join(names)}: passes as {kind.name}: is something computed in "
                    f"{kind.name}{like}?"]
    return []


def _not_finite(got: dict[str, np.ndarray], ref: Reference) -> list[str]:
    """Return what NaN and infinity in expert weights' gradients say."""
    idle_E = ref.plan.kept_load.sum(axis=0) == 0
    bad = [name for name, value in got.items() if not np.isfinite(value).all()
           and expert_axis(name, value.shape, len(idle_E)) == 0]
    hit_E = np.zeros(idle_E.shape, bool)
    for name in bad:
        hit_E |= ~np.isfinite(got[name].reshape(len(idle_E), -1)).all(axis=1)
    if not bad or (hit_E & ~idle_E).any():
        return []
    return [f"{', '.join(bad)}: not finite for experts without tokens "
            f"({', '.join(map(str, np.flatnonzero(hit_E)))}), want exactly 0: memory that nothing "
            "was written to"]


def explanations(name: str, evidence: Evidence) -> Iterator[str]:
    """Yield what explains one tensor, the simplest first."""
    if not evidence.got[name].any():
        yield f"{name} is all zeros"
    for family in FAMILIES:
        yield from family(name, evidence)
