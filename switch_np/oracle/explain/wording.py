"""Terms, factors and blocks of a tensor in words."""

from collections.abc import Sequence

import numpy as np

from switch_np.oracle.judge.tensor import TensorVerdict, owner
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.solution import Problem

REACH = {"gate": "the output's gradient does not reach the router through the gates",
         "balance": "the balance loss does not reach the router",
         "z": "the z-loss does not reach the router",
         "experts": "no gradient comes back through the experts"}

PART = {"gate": "the gradient through the gates", "balance": "the balance loss's gradient",
        "z": "the z-loss's gradient", "experts": "the gradient through the experts"}

VAGUE = "times the right one"


def silent(problem: Problem) -> dict[str, str]:
    """Return which losses the conventions turn off, and why.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw
    >>> silent(Problem(**draw(SwitchConfig.like("hf_mixtral", num_experts=4), 4, 3, 2)))
    {'z': 'z_when is "never"'}
    """
    conventions, off = problem.config.conventions, {}
    for loss, when in (("balance", conventions.balance_when), ("z", conventions.z_when)):
        if loss == "balance" and conventions.balance_counts == "none":
            off[loss] = 'balance_counts is "none"'
        elif when == "never":
            off[loss] = f'{loss}_when is "never"'
        elif when == "training" and not problem.training:
            off[loss] = f'{loss}_when is "training", and training is False'
    return off


def listed(names: Sequence[str], ref: Reference) -> str:
    """Return a tensor's blocks in words, those of experts in one phrase.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> ref = reference(**draw(SwitchConfig(num_experts=4), 24, 4, 6))
    >>> listed(["tokens of expert 1", "tokens of expert 2"], ref)
    'tokens of expert 1, 2'
    >>> listed([f"tokens of expert {e}" for e in range(4)] + ["dropped tokens"], ref)
    'kept tokens, dropped tokens'
    """
    experts = [name.rpartition(" ") for name in names if "expert " in name]
    rest = [name for name in names if "expert " not in name]
    if experts:
        what, used = experts[0][0], np.unique(owner(ref.plan))
        if len(experts) >= np.count_nonzero(used < ref.plan.load.shape[1]):
            return ", ".join([what.replace("tokens of expert", "kept tokens").replace(
                "expert", "all experts"), *rest])
        numbers = [number for _, _, number in experts]
        rest.insert(0, f"{what} {', '.join(numbers[:4])}" + ", ..." * (len(numbers) > 4))
    return ", ".join(rest)


def summary(tensor: TensorVerdict, ref: Reference) -> str:
    """Say that a tensor is wrong, and where if not everywhere."""
    only = f" only in {listed(tensor.blocks, ref)}" if tensor.blocks else ""
    return f"{tensor.name} is wrong{only}"


def sum_in_words(name: str, terms: dict[str, np.ndarray], factors: dict[str, tuple[float, str]],
                 right: list[str]) -> str:
    """Return a sum of terms in words; `right` are tensors that have the terms right."""
    wrong = {term: factor for term, factor in factors.items() if term in terms}
    text = f"{name} = " + " + ".join(
        f"{wrong.get(term, (1.0, ''))[0]:.2f}·{term}" for term in terms)
    if set(terms) == {"experts", *wrong} and not any(c for c, _ in wrong.values()):
        causes = ["no gradient comes back through the router"]
    elif right:
        causes = [f"only in {name}; {', '.join(right)} has the right terms"]
    else:
        causes = [meaning.replace("missing", REACH[term]) if not c else
                  f"{PART[term]} is {meaning}" for term, (c, meaning) in wrong.items()]
    return text.replace("+ -", "- ") + ": " + "; ".join(causes)


def factor_in_words(c: float, bar: float, term: str | None, ref: Reference) -> tuple[float, str]:
    """Return a factor and its meaning in words; "" if it may be 1.

    If only one meaningful value lies within the error bar, it is taken for the factor.
    """
    p, (t, k) = ref.problem, ref.plan.expert.shape
    real = t - (0 if p.padding is None else int(np.count_nonzero(p.padding)))
    names = [(ref.plan.load.shape[1], "E, the experts"), (t, "T, the tokens")]
    if term != "z":
        names.append((k, "k, the choices per token"))
    if real < t:
        names += [(real, "the real tokens"), (real / t, "the fraction of real tokens")]
    if term == "balance":
        groups = p.config.conventions.loss_groups(len(ref.plan.load), t)
        names.append((groups, "the groups with a balance loss of their own"))
    if term == "gates":
        names.append((ref.y.shape[-1], "D, over which they sum"))
    if 2 not in dict(names):
        names.append((2, ""))
    if term in ("balance", "z"):
        coef = p.balance_coef if term == "balance" else p.z_coef
        names.append((coef, f"the {term} coefficient"))
    found = [(0.0, "missing"), (-1.0, "of the wrong sign")]
    for n, what in names:
        if n not in (0, 1):
            label = f"{n:.4g} ({what})" if what else f"{n:.4g}"
            found += [(n, f"multiplied by {label}"), (1 / n, f"divided by {label}")]
    near = sorted((item for item in found if abs(c - item[0]) <= bar),
                  key=lambda item: abs(c - item[0]))
    if abs(c) <= bar:                               # then 0 is as likely as any small number
        near = [item for item in near if item[0] == 0 or abs(item[0]) > 0.1]
    meaning = ", or ".join(text for _, text in near[:3])
    around = f"{c:.4g}" if bar < 0.01 * abs(c) else f"{c:.2g} ± {bar:.2g}"
    if len(dict(near)) == 1:
        value = near[0][0]
        sure = bar < 0.1 * max(abs(value), 0.5)
        return value, meaning if sure else f"{meaning} (fitted: {around})"
    if near:
        return c, f"{around} {VAGUE}: {meaning}"
    return c, "" if f"{c:.2f}" == "1.00" else f"{around} {VAGUE}"
