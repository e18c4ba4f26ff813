"""Find what explains wrong numbers.

Each explanation is a small family of tensors made from the reference; it is given where one member
explains what came, as `evidence` says: much better than the truth does, and without contradicting
what is right. First the algebra, tensor by tensor: a term missing or scaled, a factor, a factor per
expert, rows in another order, a transpose. Then the museum of known bugs, and other readings of the
problem, each of which gives all tensors at once. What explains every failing tensor comes first;
"or:" marks what fits about as well as the line before, "unknown" what nothing explains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from switch_np.oracle import museum, readings
from switch_np.oracle.evidence import BARS, PEER, Evidence
from switch_np.oracle.precision import PRECISIONS, QUARTER
from switch_np.oracle.replay import Replayed
from switch_np.oracle.truth import Problem, Reference
from switch_np.oracle.verdict import (
    TensorVerdict, blocks, describe, deviations, expert_axis, owner, tensor_verdict)
from switch_np.switch import dispatch

REACH = {"gate": "the output's gradient does not reach the router through the gates",
         "balance": "the balance loss does not reach the router",
         "z": "the z-loss does not reach the router",
         "experts": "nothing comes back through the experts"}

PART = {"gate": "the gradient through the gates", "balance": "the balance loss's gradient",
        "z": "the z-loss's gradient", "experts": "the gradient through the experts"}

VAGUE = "times the right one"


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
        known = readings.recognise(evidence)
    if replayed.errors:
        return known + [error.partition(";")[0] for error in replayed.errors] + found
    if known:
        vague = unexplained or any(VAGUE in text for text in found)
        return known if vague or not found else found + known
    return found + _coarser(unexplained, evidence) + [
        f"unknown: {_summary(tensors[name], evidence.truth)}" for name in unexplained]


def silent(problem: Problem) -> dict[str, str]:
    """Return which losses the conventions switch off, and why.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle.problems import draw
    >>> silent(Problem(**draw(SwitchConfig.like("hf_mixtral", num_experts=4), 4, 3, 2)))
    {'z': 'z_when is "never"'}
    """
    rules, off = problem.config.conventions, {}
    for loss, when in (("balance", rules.balance_when), ("z", rules.z_when)):
        if loss == "balance" and rules.balance_counts == "none":
            off[loss] = 'balance_counts is "none"'
        elif when == "never":
            off[loss] = f'{loss}_when is "never"'
        elif when == "training" and not problem.training:
            off[loss] = f'{loss}_when is "training", and training is False'
    return off


def listed(names: Sequence[str], ref: Reference) -> str:
    """Return blocks of a tensor in words: those of experts together.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> ref = reference(**draw(SwitchConfig(num_experts=4), 24, 4, 6))
    >>> listed(["tokens of expert 1", "tokens of expert 2"], ref)
    'tokens of expert 1, 2'
    >>> listed([f"tokens of expert {e}" for e in range(4)] + ["dropped tokens"], ref)
    'tokens of all experts, dropped tokens'
    """
    experts = [name.rpartition(" ") for name in names if "expert " in name]
    said = [name for name in names if "expert " not in name]
    if experts:
        what, used = experts[0][0], np.unique(owner(ref.plan))
        if len(experts) >= np.count_nonzero(used < ref.plan.load.shape[1]):
            return ", ".join([what.replace("expert", "all experts"), *said])
        numbers = [number for _, _, number in experts]
        said.insert(0, f"{what} {', '.join(numbers[:4])}" + ", ..." * (len(numbers) > 4))
    return ", ".join(said)


def _summary(tensor: TensorVerdict, ref: Reference) -> str:
    only = f" only in {listed(tensor.blocks, ref)}" if tensor.blocks else ""
    return f"{tensor.name} is wrong{only}"


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
    for family in (_not_zero, _one_term, _scaled, _terms, _scaled_per_expert, _lost_rows,
                   _moved_rows, _moved_experts, _transposed, _other_outputs, _undropped):
        yield from family(name, evidence)


def _not_zero(name: str, evidence: Evidence) -> Iterator[str]:
    """Numbers where zeros were due, in experts without tokens, and nothing else is wrong."""
    got, plan = evidence.got[name], evidence.truth.plan
    extra = (evidence.sigma[name] == 0) & (got != 0)
    if extra.any() and expert_axis(name, got.shape, plan.load.shape[1]) == 0:
        hit = extra.reshape(len(extra), -1).any(axis=1)
        if not (hit & (plan.kept_load.sum(axis=0) > 0)).any() and tensor_verdict(
                name, np.where(extra, 0.0, got), evidence.want[name], evidence.sigma[name],
                evidence.truth).ok:
            yield (f"{name} is not zero for experts without tokens "
                   f"({', '.join(map(str, np.flatnonzero(hit)))}): memory that nothing was written "
                   "to")


def _one_term(name: str, evidence: Evidence) -> Iterator[str]:
    """A sum of the right terms, one of them with a factor."""
    yield from _recombined(name, evidence, 1, 1)


def _terms(name: str, evidence: Evidence) -> Iterator[str]:
    """A sum of the right terms, several of them with factors."""
    yield from _recombined(name, evidence, 2, 4)


def _recombined(name: str, evidence: Evidence, fewest: int, most: int) -> Iterator[str]:
    """Terms with factors, as few as will do: the same in all gradients that have them, if any."""
    terms = {tensor: {term: value for term, value in
                      evidence.truth.terms.get(tensor[2:], {}).items() if value.any()}
             for tensor in evidence.got}
    terms = {tensor: parts for tensor, parts in terms.items() if len(parts) > 1}
    if name not in terms:
        return
    alone = {name: terms[name]}
    for together in (terms, alone) if len(terms) > 1 else (alone,):
        among = [term for term in PART if any(term in parts for parts in together.values())]
        for count in range(fewest, min(most, len(among)) + 1):
            fits = [found for free in combinations(among, count)
                    if (found := _fitted(free, together, evidence))]
            if fits:
                _, factors = min(fits, key=lambda fit: fit[0])
                right = (sorted(set(terms) - evidence.failed)
                         if together is alone and name == "d_x" else [])
                yield _sum(name, terms[name], factors, right)
                return


def _fitted(free: tuple[str, ...], terms: dict[str, dict[str, np.ndarray]], evidence: Evidence
            ) -> tuple[float, dict[str, tuple[float, str]]] | None:
    """Return how badly these terms explain it, more so without a name, and factors with words."""
    parts = {tensor: [these.get(term, np.zeros_like(evidence.want[tensor])) for term in free]
             for tensor, these in terms.items()}
    c, bar = evidence.factors(parts)
    if (np.abs(c - 1) <= bar).any():
        return None
    words = [_factor(value, width, term, evidence.truth)
             for value, width, term in zip(c, bar, free)]
    misfit = evidence.total({
        tensor: evidence.want[tensor] + sum((value - 1) * part
                                            for (value, _), part in zip(words, these))
        for tensor, these in parts.items()})
    if misfit == np.inf or any(text == "" for _, text in words):
        return None
    vague = any(VAGUE in text for _, text in words)
    return misfit * (PEER if vague else 1), dict(zip(free, words))


def _sum(name: str, terms: dict[str, np.ndarray], factors: dict[str, tuple[float, str]],
         right: list[str]) -> str:
    """Return a sum of terms in words; `right` are tensors that have the right terms."""
    wrong = {term: factor for term, factor in factors.items() if term in terms}
    text = f"{name} = " + " + ".join(
        f"{wrong.get(term, (1.0, ''))[0]:.2f}·{term}" for term in terms)
    if set(terms) == {"experts", *wrong} and not any(c for c, _ in wrong.values()):
        causes = ["nothing comes back through the router"]
    elif right:
        causes = [f"in {name} alone, for {', '.join(right)} has the right ones"]
    else:
        causes = [words.replace("missing", REACH[term]) if not c else f"{PART[term]} is {words}"
                  for term, (c, words) in wrong.items()]
    return text.replace("+ -", "- ") + ": " + "; ".join(causes)


def _factor(c: float, bar: float, term: str | None, ref: Reference) -> tuple[float, str]:
    """Return a factor and what it may be, in words; "" where it may as well be 1.

    A value that alone lies within the error bar is taken for the factor.
    """
    p, (t, k) = ref.problem, ref.plan.expert.shape
    real = t - (0 if p.padding is None else int(np.count_nonzero(p.padding)))
    names = [(ref.plan.load.shape[1], "E, the experts"), (t, "T, the tokens")]
    names += [(k, "k, the choices per token")] * (term != "z")
    names += [(real, "the real tokens"), (real / max(t, 1), "the share of tokens that are real")
              ] * (real < t)
    if 2 not in dict(names):
        names.append((2, ""))
    names += {"balance": [(p.balance_coef, "the balance coefficient")],
              "z": [(p.z_coef, "the z coefficient")]}.get(term, [])
    found = [(0.0, "missing"), (-1.0, "of the wrong sign")]
    for n, what in names:
        if n not in (0, 1):
            label = f"{n:.4g} ({what})" if what else f"{n:.4g}"
            found += [(n, f"multiplied by {label}"), (1 / n, f"divided by {label}")]
    near = sorted((item for item in found if abs(c - item[0]) <= bar),
                  key=lambda item: abs(c - item[0]))
    if abs(c) <= bar:                               # hardly anything is as good as nothing
        near = [item for item in near if item[0] == 0 or abs(item[0]) > 0.1]
    words = ", or ".join(text for _, text in near[:3])
    around = f"{c:.4g}" if bar < 0.01 * abs(c) else f"{c:.2g} ± {bar:.2g}"
    if len(dict(near)) == 1:
        value = near[0][0]
        sure = bar < 0.1 * max(abs(value), 0.5)
        return value, words if sure else f"{words} (fitted: {around})"
    if near:
        return c, f"{around} {VAGUE}: {words}"
    return c, "" if f"{c:.2f}" == "1.00" else f"{around} {VAGUE}"


def _scaled(name: str, evidence: Evidence) -> Iterator[str]:
    """The right tensor times a number."""
    want = evidence.want[name]
    (c,), (bar,) = evidence.factors({name: [want]})
    c, text = _factor(c, bar, {"balance_loss": "balance", "z_loss": "z"}.get(name),
                      evidence.truth)
    if abs(c - 1) > bar and c and text and (want.size > 1 or VAGUE not in text) and (
            evidence.misfit(name, c * want) < np.inf):
        yield f"{name} is {text}"


def _scaled_per_expert(name: str, evidence: Evidence) -> Iterator[str]:
    """The right tensor, each expert's block times a number of its own."""
    got, want, truth = evidence.got[name], evidence.want[name], evidence.truth
    label, names = blocks(name, want.shape, truth)
    label = np.broadcast_to(label, want.shape)
    weight = evidence.weight(name)
    size = np.bincount(label.ravel(), ((want * weight) ** 2).ravel(), len(names))
    c = np.bincount(label.ravel(), (got * want * weight ** 2).ravel(), len(names))
    c = np.where(size > 0, c / np.maximum(size, 1e-300), 1.0)
    bar = BARS / np.sqrt(np.maximum(size, 1e-300)) + 1e-3
    zero, other = np.abs(c) <= bar, np.abs(c - 1) > bar
    share_E = truth.plan.kept_load.sum(axis=0)

    def explains(factors: np.ndarray) -> bool:
        return evidence.misfit(name, factors[label] * want) < np.inf

    if len(names) < 2 or not other.any():
        return
    if zero.any() and explains(np.where(zero, 0.0, 1.0)):
        yield f"{name} is zero for {listed([names[b] for b in np.flatnonzero(zero)], truth)}"
        return
    by_load = np.ones(len(names))
    by_load[:len(share_E)] = 1 / np.maximum(share_E, 1)
    if (by_load != 1).any() and explains(by_load):
        yield f"{name} is divided by each expert's number of tokens"
    elif explains(c):
        factors = ", ".join(f"{value:.3g}" for value in c[other])
        where = listed([names[b] for b in np.flatnonzero(other)], truth)
        yield f"{name} is off by a factor per expert: {factors} for {where}"


def _lost_rows(name: str, evidence: Evidence) -> Iterator[str]:
    """Right but for some tokens, whose rows are zero."""
    if name in ("y", "d_x"):
        want = evidence.want[name]
        rows = evidence.got[name].reshape(-1, want.shape[-1])
        lost = ~rows.any(axis=1) & want.reshape(rows.shape).any(axis=1)
        suspect = (want.reshape(rows.shape) * ~lost[:, None]).reshape(want.shape)
        if lost.any() and evidence.misfit(name, suspect) < np.inf:
            tokens = ", ".join(map(str, np.flatnonzero(lost)[:6]))
            last = "" if rows.any(axis=1)[lost.argmax():].any() else ", the last ones"
            yield f"{name} is zero for {lost.sum()} of {len(lost)} tokens{last}: {tokens}"


def _moved_rows(name: str, evidence: Evidence) -> Iterator[str]:
    """The right rows of y or d_x, at the wrong tokens."""
    if name in ("y", "d_x"):
        want, plan = evidence.want[name], evidence.truth.plan
        rows = want.reshape(-1, want.shape[-1])
        source = _sources(evidence.got[name].reshape(rows.shape), rows)
        if evidence.misfit(name, rows[source].reshape(want.shape)) < np.inf:
            token = int(np.flatnonzero(source != np.arange(len(source)))[0])
            order = ", the order in which the experts get them" if (
                sorted(source) == list(range(len(source)))
                and (np.diff(plan.expert[source, 0]) >= 0).all()) else ""
            yield (f"{name} has its tokens permuted{order}: token {token} holds the row of "
                   f"token {source[token]}")


def _moved_experts(name: str, evidence: Evidence) -> Iterator[str]:
    """The right blocks of a weight's gradient, at the wrong experts."""
    want, e = evidence.want[name], evidence.truth.plan.load.shape[1]
    axis = expert_axis(name, want.shape, e)
    if axis is None or want.ndim < 2:
        return
    mine, right = (np.moveaxis(value, axis, 0).reshape(e, -1)
                   for value in (evidence.got[name], want))
    source = _sources(mine, right)
    if evidence.misfit(name, np.take(want, source, axis=axis)) < np.inf:
        first = int(np.flatnonzero(source != np.arange(e))[0])
        yield (f"{name} has its experts permuted: expert {first} holds that of expert "
               f"{source[first]}")


def _sources(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Return for each row of `got` the row of `want` that is nearest; at a tie its own."""
    distance = (want ** 2).sum(axis=1) - 2 * got @ want.T
    distance[np.arange(len(got)), np.arange(len(got))] -= 1e-9 * max(
        float((want ** 2).sum(axis=1).max(initial=0.0)), 1e-300)
    return distance.argmin(axis=1)


def _transposed(name: str, evidence: Evidence) -> Iterator[str]:
    """The right matrix, or an expert's, transposed."""
    want = evidence.want[name]
    if want.ndim >= 2 and name not in ("y", "d_x"):
        if evidence.misfit(name, want.swapaxes(-1, -2).reshape(want.shape)) < np.inf:
            yield f"{name} is transposed"


def _other_outputs(name: str, evidence: Evidence) -> Iterator[str]:
    """y with other weights on the right experts, or with dropped tokens passed on."""
    truth = evidence.truth
    plan, want = truth.plan, truth.y
    if name != "y" or not len(plan.token):
        return
    rows = truth.intermediates["experts.out"]
    total = np.maximum(truth.gates.sum(axis=1, keepdims=True), 1e-300)
    kept = np.maximum((truth.gates * plan.kept).sum(axis=1, keepdims=True), 1e-300)
    weights = {"the gates are not applied": np.ones(truth.gates.shape),
               "the gates are applied twice": truth.gates ** 2,
               "the gates are divided by the sum over the chosen experts": truth.gates / total,
               "the gates are divided by the sum over the kept experts": truth.gates / kept,
               "the gates are the scores as they are":
                   np.take_along_axis(truth.probs, plan.expert, axis=1)}
    for text, gates in weights.items():
        more = dispatch.by_row(gates - truth.gates, plan)[:, None]
        moved = dispatch.sum_by_token(rows * more, plan).reshape(want.shape)
        if evidence.misfit(name, want + moved) < np.inf:
            yield f"y: {text}"
    x, flat = truth.problem.x.reshape(-1, want.shape[-1]), want.reshape(-1, want.shape[-1])
    gone = ~plan.kept.any(axis=1)
    for text, passed in (("passed on as x", x),
                         ("passed on as gate · x", x * truth.gates[:, :1])):
        y = np.where(gone[:, None], passed, flat).reshape(want.shape)
        if gone.any() and evidence.misfit(name, y) < np.inf:
            token = int(gone.argmax())
            yield f"y: dropped tokens are {text}, want 0, as for {describe(token, plan)}"


def _undropped(name: str, evidence: Evidence) -> Iterator[str]:
    """Choices that were dropped, and have an effect all the same."""
    other, truth = evidence.undropped, evidence.truth
    if other is None or name.endswith("_loss"):
        return
    suspects = [other.outputs()[name]]
    if name == "d_x":                               # the experts' part alone, the gates held fixed
        suspects.append(truth.grads["x"] + other.terms["x"]["experts"]
                        - truth.terms["x"]["experts"])
    if any(evidence.misfit(name, suspect) < np.inf for suspect in suspects):
        what = "are computed and added too" if name == "y" else "send a gradient too"
        yield f"{name}: dropped choices {what}"
