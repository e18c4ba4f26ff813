"""Right tensors recombined: a term missing or scaled, a factor, a factor per expert."""

from itertools import combinations

import numpy as np

from switch_np.oracle.explain.causes import BARS, PEER, Evidence, Suspects
from switch_np.oracle.explain.wording import PART, VAGUE, factor_in_words, listed, sum_in_words
from switch_np.oracle.judge.tensor import blocks, expert_axis, tensor_verdict


def not_zero(name: str, evidence: Evidence) -> Suspects:
    """Right, except that experts without tokens have numbers where zeros belong."""
    got, plan = evidence.got[name], evidence.truth.plan
    extra = (evidence.sigma[name] == 0) & (got != 0)
    if extra.any() and expert_axis(name, got.shape, plan.load.shape[1]) == 0:
        hit = extra.reshape(len(extra), -1).any(axis=1)
        if not (hit & (plan.kept_load.sum(axis=0) > 0)).any() and tensor_verdict(
                name, np.where(extra, 0.0, got), evidence.want[name], evidence.sigma[name],
                evidence.truth).ok:
            also = ", or tokens that they should not get" if "y" in evidence.failed else ""
            yield (f"{name} is not zero for experts without tokens "
                   f"({', '.join(map(str, np.flatnonzero(hit)))}): memory that nothing was written "
                   f"to{also}", None)


def losses_not_asked_for(name: str, evidence: Evidence) -> Suspects:
    """The right gradient, plus that of a loss whose coefficient is 0 in the reference."""
    ref = evidence.truth
    for loss, coef in (("balance", ref.problem.balance_coef), ("z", ref.problem.z_coef)):
        seed = ref.seeds.get(loss, {}).get(name[2:])
        if not coef and seed is not None and seed.any():
            (c,), _ = evidence.factors({name: [seed]})
            yield (f"{name} contains {c - 1:.3g} times the {loss} loss's gradient, but the "
                   f"reference was made with {loss}_coef=0", evidence.want[name] + (c - 1) * seed)


def recombined(name: str, evidence: Evidence, fewest: int, most: int) -> Suspects:
    """The right terms, some of them multiplied by factors.

    As few factors as will do; if possible the same ones in every gradient with these terms.
    """
    terms = {}
    for tensor in evidence.got:
        parts = evidence.truth.terms.get(tensor[2:], {})
        terms[tensor] = {term: value for term, value in parts.items() if value.any()}
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
                in_d_x_alone = together is alone and name == "d_x"
                right = sorted(set(terms) - evidence.failed) if in_d_x_alone else []
                yield sum_in_words(name, terms[name], factors, right), None
                return


def _fitted(free: tuple[str, ...], terms: dict[str, dict[str, np.ndarray]], evidence: Evidence
            ) -> tuple[float, dict[str, tuple[float, str]]] | None:
    """Return the misfit, larger if a factor has no meaning, and each term's factor in words."""
    parts = {tensor: [these.get(term, np.zeros_like(evidence.want[tensor])) for term in free]
             for tensor, these in terms.items()}
    c, bar = evidence.factors(parts)
    if (np.abs(c - 1) <= bar).any():
        return None
    factors = [factor_in_words(value, width, term, evidence.truth)
               for value, width, term in zip(c, bar, free)]
    misfit = evidence.total({
        tensor: evidence.want[tensor] + sum((value - 1) * part
                                            for (value, _), part in zip(factors, these))
        for tensor, these in parts.items()})
    if misfit == np.inf or any(text == "" for _, text in factors):
        return None
    vague = any(VAGUE in text for _, text in factors)
    return misfit * (PEER if vague else 1), dict(zip(free, factors))


def without_jitter(name: str, evidence: Evidence) -> Suspects:
    """d_x with what comes back through the router not multiplied by the jitter."""
    p, terms = evidence.truth.problem, evidence.truth.terms
    if name == "d_x" and p.noise is not None and p.noise.jitter is not None and (
            p.config.conventions.jitter_reach == "router"):
        router = evidence.want["d_x"] - terms["x"]["experts"]
        bare = router / p.noise.jitter.reshape(router.shape)
        yield ("d_x: what comes back through the router is not multiplied by the jitter",
               terms["x"]["experts"] + bare)


def scaled(name: str, evidence: Evidence) -> Suspects:
    """The right tensor times a number."""
    want = evidence.want[name]
    (c,), (bar,) = evidence.factors({name: [want]})
    term = {"balance_loss": "balance", "z_loss": "z", "d_gates": "gates"}.get(name)
    c, text = factor_in_words(c, bar, term, evidence.truth)
    if abs(c - 1) > bar and c and text and (want.size > 1 or VAGUE not in text):
        yield f"{name} is {text}", c * want


def scaled_per_expert(name: str, evidence: Evidence) -> Suspects:
    """The right tensor, each expert's block times its own number."""
    got, want, truth = evidence.got[name], evidence.want[name], evidence.truth
    label, names = blocks(name, want.shape, truth)
    label = np.broadcast_to(label, want.shape)
    weight = evidence.weight(name)
    size = np.bincount(label.ravel(), ((want * weight) ** 2).ravel(), len(names))
    c = np.bincount(label.ravel(), (got * want * weight ** 2).ravel(), len(names))
    c = np.where(size > 0, c / np.maximum(size, 1e-300), 1.0)
    bar = BARS / np.sqrt(np.maximum(size, 1e-300)) + 1e-3
    zero, other = (np.abs(c) <= bar) & (size > 0), np.abs(c - 1) > bar
    if len(names) < 2 or want.size <= len(names) or not other.any():
        return
    if zero.any():
        where = listed([names[b] for b in np.flatnonzero(zero)], truth)
        yield f"{name} is zero for {where}", np.where(zero, 0.0, 1.0)[label] * want
    by_load, kept_E = np.ones(len(names)), truth.plan.kept_load.sum(axis=0)
    by_load[:len(kept_E)] = 1 / np.maximum(kept_E, 1)
    if (by_load != 1).any():
        yield f"{name} is divided by each expert's number of tokens", by_load[label] * want
    factors = ", ".join(f"{value:.3g}" for value in c[other])
    where = listed([names[b] for b in np.flatnonzero(other)], truth)
    yield f"{name} is off by a factor per expert: {factors} for {where}", c[label] * want
