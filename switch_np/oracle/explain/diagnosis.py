"""Name what explains wrong numbers.

Each suspect is a tensor, or all of them, that a kernel with some bug would give. `causes` decides
whether it explains the kernel's numbers. Changes of one tensor come first (`FAMILIES`, the simplest
first), then the museum of known bugs, other choices and other conventions, which give every tensor
at once. A suspect that explains every failing tensor is named first; "or:" marks one that fits
about as well as the line before, and "unknown" a tensor that nothing explains.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from switch_np.operations.roundoff import PRECISIONS, QUARTER
from switch_np.oracle.explain import (
    algebra, balance_losses, mixtures, museum, other_choices, other_conventions, partial_sums, rows)
from switch_np.oracle.explain.causes import Evidence, Suspects
from switch_np.oracle.explain.wording import VAGUE, summary
from switch_np.oracle.judge.judge_choices import Replayed
from switch_np.oracle.judge.tensor import (
    TensorVerdict, by_block, by_row, describe, deviations, expert_axis, tensor_verdict)
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.solution import ROWS

FAMILIES: tuple[Callable[[str, Evidence], Suspects], ...] = (
    algebra.losses_not_asked_for, algebra.not_zero, partial(algebra.recombined, fewest=1, most=1),
    algebra.scaled, partial(algebra.recombined, fewest=2, most=4), algebra.without_jitter,
    mixtures.gates_on_the_way_back, mixtures.gate_gradients, algebra.scaled_per_expert,
    rows.lost_rows, rows.other_orders, rows.moved_rows, rows.not_inverted, rows.moved_experts,
    rows.transposed, mixtures.shared_experts, mixtures.other_gates, mixtures.output_biases,
    rows.passed_through, rows.another_slot, rows.undropped, partial_sums.parts_of_tokens,
    partial_sums.rows_of_neighbours, partial_sums.empty_slots, partial_sums.parts_of_choices,
    partial_sums.parts_of_features, rows.misread_rows, balance_losses.other_balance_losses)


@np.errstate(all="ignore")                     # a suspect that overflows explains nothing
def diagnose(ref: Reference, got: dict[str, np.ndarray], tensors: dict[str, TensorVerdict],
             precision: str, replayed: Replayed, rank: int | None = None) -> list[str]:
    """Return explanations, the likeliest first: at least one if a tensor or a choice is wrong.

    `ref` is the reference as given; `replayed` has the one under the kernel's own choices; `rank`
    is the rank whose tensors these are, if there is one.
    """
    failed = [name for name, tensor in tensors.items() if not tensor.ok]
    evidence = Evidence(ref, replayed, {name: got[name] for name in tensors}, frozenset(failed),
                        precision)
    found, unexplained = _not_finite(got, replayed.reference), []
    if not ref.problem.d_y.any() and failed and "y" not in failed:
        found.append("the reference was made without d_y, so its gradients are those of the losses "
                     "only; pass as d_y the gradient that the kernel received at y")
    for name in failed:
        text = next(explanations(name, evidence), None)
        if text is None:
            unexplained.append(name)
        elif text not in found:
            found.append(text)
    if not (replayed.errors or failed):
        return found            # a missing or misshapen tensor would fit every bug of the museum
    planted: list[str] = [] if rank is None else museum.wrong_ranks.recognise(evidence, rank)
    if planted:
        return planted + found
    known = museum.recognise(evidence)
    if not known and (unexplained or replayed.errors):
        known = other_choices.recognise(evidence) or other_conventions.recognise(evidence)
    if replayed.errors:
        return known + [error.partition(";")[0] for error in replayed.errors] + found
    if known:
        vague = unexplained or any(VAGUE in text for text in found)
        return known if vague or not found else found + known
    right = [name for name in tensors if name not in failed]
    but = f"; {', '.join(right)} {'are' if right[1:] else 'is'} right" if right else ""
    return found + _coarser(unexplained, evidence) + [
        f"unknown: {_few_rows(name, evidence) or summary(tensors[name], evidence.truth)}{but}"
        for name in unexplained]


def _few_rows(name: str, evidence: Evidence) -> str:
    """Say which rows alone are wrong, if they are a quarter of a tensor's or fewer; else ""."""
    got, want, sigma = evidence.got[name], evidence.want[name], evidence.sigma[name]
    if name not in ROWS or got.ndim < 2 or by_row(name, evidence.truth):
        return ""
    token_TD = np.arange(got[..., 0].size).repeat(got.shape[-1])
    *_, bad_T = by_block(deviations(got, want, sigma), token_TD, got[..., 0].size)
    rest = np.where(bad_T.reshape(*got.shape[:-1], 1), want, got)
    if not 0 < 4 * bad_T.sum() <= len(bad_T) or not tensor_verdict(
            name, rest, want, sigma, evidence.truth).ok:
        return ""
    tokens = np.flatnonzero(bad_T)
    others = f"; {', '.join(map(str, tokens[1:6]))}" * (len(tokens) > 1) + ", ..." * (
        len(tokens) > 6)
    return (f"{name} is wrong only in {len(tokens)} of {len(bad_T)} tokens "
            f"({describe(int(tokens[0]), evidence.truth.plan)}{others})")


def _coarser(names: list[str], evidence: Evidence) -> list[str]:
    """Say in which coarser precision these tensors would pass, if there is one."""
    def error(name: str, unit: np.ndarray) -> float:
        z = deviations(evidence.got[name], evidence.want[name], unit)
        return float(np.sqrt(np.mean(z ** 2)))

    order = list(PRECISIONS)
    for kind in [PRECISIONS[name] for name in order[order.index(evidence.precision) + 1:]]:
        # Its rounding would cause errors neither much smaller nor much larger than these.
        if not names or not all(
                1e-3 <= error(name, np.asarray(kind.store * np.abs(evidence.want[name]).max())) < 99
                for name in names):
            continue
        rounding = evidence.truth.rounding(kind.name)
        if rounding.peak <= QUARTER * kind.largest and all(
                error(name, sigma := rounding.sigma[name]) > 0.1 and tensor_verdict(
                    name, evidence.got[name], evidence.want[name], sigma, evidence.truth).ok
                for name in names):
            like = " or TF32" if kind.name == "float16" else ""
            return [f"{', '.join(names)}: would pass as {kind.name}: is something computed in "
                    f"{kind.name}{like}?"]
    return []


def _not_finite(got: dict[str, np.ndarray], ref: Reference) -> list[str]:
    """Say if NaN and infinity fill only the weights' gradients of experts without tokens."""
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
    shape = evidence.want[name].shape
    for family in FAMILIES:
        for text, suspect in family(name, evidence):
            if suspect is None or evidence.misfit(name, suspect.reshape(shape)) < np.inf:
                yield text
