"""Find what explains wrong numbers.

Each explanation is a small family of tensors made from the reference; it explains a failure where
one member agrees with what came, within the noise. First the algebra, tensor by tensor: a term
missing or scaled, a factor, a factor per expert, rows in another order, a transpose. Then the
museum of known bugs, each of which gives all tensors at once. What explains every failing tensor
comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from switch_np.oracle.verdict import (
    TensorVerdict, blocks, describe, expert_axis, misfit)
from switch_np.switch import dispatch

if TYPE_CHECKING:
    from switch_np.oracle.replay import Replayed
    from switch_np.oracle.truth import Reference

REACH = {"gate": "the output's gradient does not reach the router through the gates",
         "balance": "the balance loss does not reach the router",
         "z": "the z-loss does not reach the router",
         "experts": "nothing comes back through the experts"}

PART = {"gate": "the gradient through the gates", "balance": "the balance loss's gradient",
        "z": "the z-loss's gradient", "experts": "the gradient through the experts"}


def diagnose(ref: Reference, got: dict[str, np.ndarray], tensors: dict[str, TensorVerdict],
             precision: str, replayed: Replayed) -> list[str]:
    """Return explanations, the likeliest first; never empty where a tensor or a decision is wrong.

    `ref` is the reference as it was handed in; `replayed` has the one under the kernel's decisions.
    """
    from switch_np.oracle import museum

    truth = replayed.reference
    found, unexplained = _not_finite(got, truth), []
    for name, tensor in tensors.items():
        if not tensor.ok:
            text = next(explanations(name, got[name], truth, truth.sigma(precision)[name]), None)
            if text is None:
                unexplained.append(name)
            elif text not in found:
                found.append(text)
    finite = {name: value for name, value in got.items() if np.isfinite(value).all()}
    if not replayed.errors and all(tensor.ok for tensor in tensors.values()):
        return found          # what is missing, misshapen or no number fits every bug in the museum
    known = museum.recognise(ref, finite, replayed.given, truth, precision)
    if replayed.errors:
        return known + [error.partition(";")[0] for error in replayed.errors] + found
    ranked = found + known if found and not unexplained else known + found
    return ranked or [f"unknown: {_summary(tensors[name])}" for name in unexplained]


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


def explanations(name: str, got: np.ndarray, ref: Reference,
                 sigma: np.ndarray) -> Iterator[str]:
    """Yield what explains one tensor, the simplest first."""
    want = ref.outputs()[name]
    if not got.any():
        yield f"{name} is all zeros"
    yield from _not_zero(name, got, ref, sigma)
    yield from _terms(name, got, want, ref, sigma)
    measure = misfit(sigma, got)
    for family in (_scaled, _scaled_per_expert, _lost_rows, _moved_rows, _moved_experts,
                   _transposed, _other_outputs):
        yield from family(name, got, want, ref, lambda candidate: measure(candidate) < np.inf)


def _not_zero(name: str, got: np.ndarray, ref: Reference, sigma: np.ndarray) -> Iterator[str]:
    """Numbers where zeros were due, all of them in experts without tokens."""
    extra = (sigma == 0) & (got != 0)
    if extra.any() and expert_axis(name, got.shape, ref.plan.load.shape[1]) == 0:
        hit = extra.reshape(len(extra), -1).any(axis=1)
        if not (hit & (ref.plan.kept_load.sum(axis=0) > 0)).any():
            yield (f"{name} is not zero for experts without tokens "
                   f"({', '.join(map(str, np.flatnonzero(hit)))}): memory that nothing was written "
                   "to")


def _terms(name: str, got: np.ndarray, want: np.ndarray, ref: Reference,
           sigma: np.ndarray) -> Iterator[str]:
    """A sum of the right terms with the wrong coefficients, found by least squares."""
    terms = {term: value for term, value in ref.terms.get(name[2:], {}).items() if value.any()}
    if len(terms) < 2 or not sigma.any():
        return
    weight = 1 / np.maximum(sigma, np.median(sigma[sigma > 0])).ravel()
    columns = np.stack([value.ravel() for value in terms.values()], axis=1)
    scale = np.sqrt(((columns * weight[:, None]) ** 2).sum(axis=0))
    left = columns * weight[:, None] / scale
    coefs = np.zeros(len(terms))
    for _ in range(2):             # the second round mends what the first one rounded, in float64
        rest = got.ravel() - columns @ coefs
        coefs += np.linalg.lstsq(left, rest * weight, rcond=None)[0] / scale
    error = np.sqrt(np.diag(np.linalg.pinv(left.T @ left))) / scale
    whole = np.round(coefs)
    coefs = np.where(np.abs(coefs - whole) < np.minimum(2e-3 + 6 * error, 0.15), whole, coefs) + 0.0
    if (coefs == 1).all() or misfit(sigma, got)((columns @ coefs).reshape(want.shape)) == np.inf:
        return
    text = f"{name} = " + " + ".join(f"{c:.2f}·{term}" for c, term in zip(coefs, terms))
    wrong = {term: (c, err) for term, c, err in zip(terms, coefs, error) if c != 1}
    if set(terms) == {"experts", *wrong} and not any(c for c, _ in wrong.values()):
        causes = ["nothing comes back through the router"]
    else:
        causes = [REACH[term] if c == 0 else
                  f"{PART[term]} is {_factor(c, ref, 2e-3 + 6 * err / abs(c))}"
                  for term, (c, err) in wrong.items()]
    yield text.replace("+ -", "- ") + ": " + "; ".join(causes)


def _factor(c: float, ref: Reference, close: float = 2e-3) -> str:
    """Return a factor in words, with what it may be."""
    t, k = ref.plan.expert.shape
    e = ref.plan.load.shape[1]
    names = {"E, the experts": e, "k, the choices per token": k, "T, the tokens": t,
             "the real tokens": int(ref.plan.balance_tokens.sum()),
             "the balance coefficient": ref.problem.balance_coef,
             "the z coefficient": ref.problem.z_coef}
    for what, n in names.items():
        for value, text in ((n, f"multiplied by {n:.4g} ({what})"),
                            (1 / n if n else 0, f"divided by {n:.4g} ({what})")):
            if n not in (0, 1) and abs(c / value - 1) < min(close, 0.2):
                return text
    return "of the wrong sign" if abs(c + 1) < 2e-3 else f"{c:.4g} times the right one"


def _scaled(name: str, got: np.ndarray, want: np.ndarray, ref: Reference,
            fits: Callable[[np.ndarray], bool]) -> Iterator[str]:
    """The right tensor times a number."""
    c = float((got * want).sum() / max((want * want).sum(), 1e-300))
    text = _factor(c, ref)
    if got.any() and fits(c * want) and (got.size > 1 or "times the" not in text):
        yield f"{name} is {text}"


def _scaled_per_expert(name: str, got: np.ndarray, want: np.ndarray, ref: Reference,
                       fits: Callable[[np.ndarray], bool]) -> Iterator[str]:
    """The right tensor, each expert's block times a number of its own."""
    label, names = blocks(name, want.shape, ref)
    label = np.broadcast_to(label, want.shape)
    if len(names) < 2:
        return
    size = np.bincount(label.ravel(), (want * want).ravel(), len(names))
    c = np.bincount(label.ravel(), (got * want).ravel(), len(names)) / np.maximum(size, 1e-300)
    if not fits(c[label] * want):
        return
    c = np.where(size > 0, c, 1.0)
    zero, other = np.abs(c) < 1e-3, np.abs(c - 1) > 2e-3
    where = ", ".join(names[b] for b in np.flatnonzero(zero if zero.any() else other))
    share_E = ref.plan.kept_load.sum(axis=0)
    if zero.any():
        yield f"{name} is zero for {where}"
    elif np.allclose(c[:len(share_E)] * share_E, (share_E > 0) | (size[:len(share_E)] == 0),
                     rtol=1e-2, atol=1e-2 * share_E.max()):
        yield f"{name} is divided by each expert's number of tokens"
    else:
        factors = ", ".join(f"{value:.3g}" for value in c[other])
        yield f"{name} is off by a factor per expert: {factors} for {where}"


def _moved_rows(name: str, got: np.ndarray, want: np.ndarray, ref: Reference,
                fits: Callable[[np.ndarray], bool]) -> Iterator[str]:
    """The right rows of y or d_x, at the wrong tokens."""
    if name in ("y", "d_x"):
        source = _sources(got.reshape(-1, want.shape[-1]), want.reshape(-1, want.shape[-1]))
        if fits(want.reshape(-1, want.shape[-1])[source].reshape(want.shape)):
            token = int(np.flatnonzero(source != np.arange(len(source)))[0])
            order = ", the order in which the experts get them" if (
                sorted(source) == list(range(len(source)))
                and (np.diff(ref.plan.expert[source, 0]) >= 0).all()) else ""
            yield (f"{name} has its tokens permuted{order}: token {token} holds the row of "
                   f"token {source[token]}")


def _moved_experts(name: str, got: np.ndarray, want: np.ndarray, ref: Reference,
                   fits: Callable[[np.ndarray], bool]) -> Iterator[str]:
    """The right blocks of a weight's gradient, at the wrong experts."""
    e = ref.plan.load.shape[1]
    axis = expert_axis(name, want.shape, e)
    if axis is None or want.ndim < 2:
        return
    mine, right = (np.moveaxis(value, axis, 0).reshape(e, -1) for value in (got, want))
    source = _sources(mine, right)
    if fits(np.take(want, source, axis=axis)):
        first = int(np.flatnonzero(source != np.arange(e))[0])
        yield (f"{name} has its experts permuted: expert {first} holds that of expert "
               f"{source[first]}")


def _sources(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Return for each row of `got` the row of `want` that is nearest; at a tie its own."""
    distance = (want ** 2).sum(axis=1) - 2 * got @ want.T
    distance[np.arange(len(got)), np.arange(len(got))] -= 1e-9 * max(
        float((want ** 2).sum(axis=1).max(initial=0.0)), 1e-300)
    return distance.argmin(axis=1)


def _transposed(name: str, got: np.ndarray, want: np.ndarray, ref: Reference,
                fits: Callable[[np.ndarray], bool]) -> Iterator[str]:
    """The right matrix, or an expert's, transposed."""
    if want.ndim >= 2 and name not in ("y", "d_x"):
        turned = want.swapaxes(-1, -2)
        if fits(turned.reshape(want.shape)):
            yield f"{name} is transposed"


def _lost_rows(name: str, got: np.ndarray, want: np.ndarray, ref: Reference,
               fits: Callable[[np.ndarray], bool]) -> Iterator[str]:
    """Right but for some tokens, whose rows are zero."""
    if name in ("y", "d_x"):
        rows = got.reshape(-1, want.shape[-1])
        lost = ~rows.any(axis=1) & want.reshape(rows.shape).any(axis=1)
        if fits((want.reshape(rows.shape) * ~lost[:, None]).reshape(want.shape)):
            tokens = ", ".join(map(str, np.flatnonzero(lost)[:6]))
            still = rows.any(axis=1)[lost.argmax():]
            last = ", the last ones" if lost.any() and not still.any() else ""
            yield f"{name} is zero for {lost.sum()} of {len(lost)} tokens{last}: {tokens}"


def _other_outputs(name: str, got: np.ndarray, want: np.ndarray, ref: Reference,
                   fits: Callable[[np.ndarray], bool]) -> Iterator[str]:
    """y with other weights on the right experts, or with dropped tokens passed on."""
    plan = ref.plan
    if name != "y" or "combine.out" not in ref.intermediates:
        return
    rows = dispatch.take_rows(ref.intermediates["combine.out"], plan)
    total = np.maximum(ref.gates.sum(axis=1, keepdims=True), 1e-300)
    kept = np.maximum((ref.gates * plan.kept).sum(axis=1, keepdims=True), 1e-300)
    weights = {"the gates are not applied": np.ones(ref.gates.shape),
               "the gates are applied twice": ref.gates ** 2,
               "the gates are divided by the sum over the chosen experts": ref.gates / total,
               "the gates are divided by the sum over the kept experts": ref.gates / kept}
    for text, gates in weights.items():
        y = dispatch.add_back(rows * gates[plan.token, plan.choice][:, None], plan)
        if fits(y.reshape(want.shape)):
            yield f"y: {text}"
    x = ref.problem.x.reshape(-1, want.shape[-1])
    gone = ~plan.kept.any(axis=1)
    for text, passed in (("passed on as x", x),
                         ("passed on as gate · x", x * ref.gates[:, :1])):
        y = np.where(gone[:, None], passed, want.reshape(x.shape))
        if gone.any() and fits(y.reshape(want.shape)):
            token = int(gone.argmax())
            yield f"y: dropped tokens are {text}, want 0, as for {describe(token, plan)}"


def _summary(tensor: TensorVerdict) -> str:
    only = f" only in {', '.join(tensor.blocks[:4])}" if tensor.blocks else ""
    return f"{tensor.name} is wrong{only}"
