"""Does a suspect explain the kernel's numbers? It does if the kernel would pass against it.

A suspect is what a kernel with some bug would give. Tensors that failed must lie within half of the
verdict's limits around it, and so fit it at least twice as well as the truth; those that passed,
within the whole limits. Its sigma is the truth's, plus some for the numbers that it changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from switch_np.operations.roundoff import named
from switch_np.oracle.explain.expert_rows import ExpertRows
from switch_np.oracle.judge.judge_choices import Replayed
from switch_np.oracle.judge.tensor import deviations, tensor_verdict
from switch_np.oracle.truth.decisions import by_token
from switch_np.oracle.truth.reference import Reference, planned, solve
from switch_np.oracle.truth.solution import Problem, outputs
from switch_np.switch.plan import Plan

# What a family of suspects yields: words and the tensor to be judged, None if it has been judged.
Suspects = Iterator[tuple[str, np.ndarray | None]]
BARS = 5.0                                  # standard errors in an error bar, besides rounding
PEER = 1.3                      # misfits up to this multiple of the least count as equally likely


@dataclass(frozen=True)
class Evidence:
    """A kernel's numbers, all finite, and the verdicts on them.

    Attributes
    ----------
    ref, replayed
        The reference as given, and under the kernel's own choices.
    got, failed, precision
        The tensors, named as in `Reference.outputs`; the names of those that failed; the precision
        whose rounding errors are allowed.
    """

    ref: Reference
    replayed: Replayed
    got: dict[str, np.ndarray]
    failed: frozenset[str]
    precision: str

    @property
    def truth(self) -> Reference:
        """The reference under the kernel's own choices."""
        return self.replayed.reference

    @property
    def legal(self) -> bool:
        """Whether the chosen experts are right, as far as they are known."""
        return self.replayed.routing is None or self.replayed.routing.ok

    @property
    def sigma(self) -> Mapping[str, np.ndarray]:
        """The truth's standard deviation of rounding error, by tensor."""
        return self.truth.sigma(self.precision)

    @cached_property
    def want(self) -> dict[str, np.ndarray]:
        """The truth's tensors."""
        return self.truth.outputs()

    @cached_property
    def undropped(self) -> Reference | None:
        """The truth if no choice were dropped; None if none is, or if experts choose tokens."""
        p, plan = self.truth.problem, self.truth.plan
        if not p.whole:
            return None
        kept_TK = np.repeat(p.served_T[:, None], plan.kept.shape[1], axis=1)
        if p.config.conventions.chooser == "experts" or (kept_TK == plan.kept).all():
            return None
        other = planned(p, plan, kept_TK)
        return solve(p, replace(other, balance_count=plan.balance_count), self.truth.precision)

    @cached_property
    def rows(self) -> ExpertRows:
        """The truth row by row."""
        return ExpertRows(self.truth)

    @cached_property
    def due(self) -> Plan:
        """The plan that the kernel's choice of experts should lead to."""
        plan = self.truth.plan
        same = np.array_equal(plan.expert, self.ref.plan.expert)
        return self.ref.plan if same else planned(self.ref.problem, plan)

    def decides_so(self, expert_TK: np.ndarray, kept_TK: np.ndarray) -> bool:
        """Whether these may be the kernel's choices and would explain something.

        They explain nothing where both the tensors and the choices are right.
        """
        given, plan = self.replayed.given or {}, self.truth.plan
        for name, value, own in (("expert", expert_TK, plan.expert), ("kept", kept_TK, plan.kept)):
            if given.get(name) is not None:
                told = own if self.legal else by_token(name, given[name], len(own)).astype(int)
                if not np.array_equal(value, told):
                    return False
        return bool(self.failed) or not self.legal or not np.array_equal(kept_TK, self.due.kept)

    def weight(self, name: str) -> np.ndarray:
        """Return 1 / sigma, and 0 where sigma is 0."""
        sigma = np.asarray(self.sigma[name])
        return np.where(sigma > 0, 1 / np.maximum(sigma, 1e-140), 0.0)

    def misfit(self, name: str, suspect: np.ndarray) -> float:
        """Return a suspect's root mean square error in sigmas; infinity if it explains nothing."""
        got, want, sigma = self.got[name], np.asarray(self.want[name]), self.sigma[name]
        if suspect.shape != got.shape or not np.isfinite(suspect).all():
            return np.inf
        if not got.size:
            return 0.0
        some = sigma[sigma > 0]
        usual = np.median(some) / max(np.abs(want).max(), 1e-300) if some.size else 0.0
        change = np.abs(suspect - want)
        # Sums may cancel, above all in a row that changes by more than its own size.
        most, own = ((value.max(axis=-1, keepdims=True) if value.ndim else value)
                     for value in (change, np.abs(want)))
        more = 4 * max(usual, named(self.precision).store) * np.where(most > own, 4 * most, most)
        more = more + np.where(sigma == 0, some.min() if some.size else 0.0, 0.0)
        noise = sigma + np.where(change > 0, more, 0.0)
        # What a suspect changes must fit twice as well; elsewhere the kernel is merely right.
        limit = np.where((change > sigma) & (name in self.failed), 0.5, 1.0)
        if not tensor_verdict(name, got, suspect, limit * noise, self.truth).ok:
            return np.inf
        return float(np.sqrt(np.mean(deviations(got, suspect, noise) ** 2)))

    def total(self, suspects: dict[str, np.ndarray]) -> float:
        """Return the sum of the misfits over the tensors given."""
        total = 0.0
        for name in sorted(self.got, key=lambda name: name not in self.failed):
            if name in suspects and total < np.inf:
                total += self.misfit(name, suspects[name])
        return total

    def given_by(self, problem: Problem, plan: Plan | None
                 ) -> tuple[Plan, dict[str, np.ndarray]] | None:
        """Return a problem's plan and tensors; None if its y or its losses explain nothing."""
        out, cache = problem.forward(plan)
        if self.total(outputs(out, {})) == np.inf:
            return None
        grads = problem.backward(problem.d_y, cache, problem.balance_coef, problem.z_coef)
        return out.plan, outputs(out, grads)

    def factors(self, terms: Mapping[str, Sequence[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the factors of the truth's terms by least squares, and their error bars.

        `terms` has the same number of arrays for each tensor. Errors in one row are correlated, as
        they may all come from one token's d_logits: an error bar is the larger of the one that
        follows from sigma and the one that follows from the spread over rows.
        """
        weight = _joined([self.weight(name) for name in terms])
        columns = np.stack([_joined(column) for column in zip(*terms.values())], axis=1)
        error = _joined([self.got[name] - self.want[name] for name in terms])
        scale = np.maximum(np.sqrt(((columns * weight[:, None]) ** 2).sum(axis=0)), 1e-300)
        left = columns * weight[:, None] / scale
        inverse, more = np.linalg.pinv(left.T @ left), np.zeros(len(scale))
        for _ in range(2):         # the second round corrects the first one's rounding
            more += inverse @ (left.T @ ((error - columns @ more) * weight)) / scale
        rows = np.concatenate([np.arange(value.size) // value.shape[-1] * len(terms) + i
                               if value.ndim else [i]
                               for i, value in enumerate(self.got[name] for name in terms)])
        over = left * ((error - columns @ more) * weight)[:, None]
        spread = np.stack([np.bincount(rows.astype(int), column) for column in over.T], axis=1)
        variance = np.maximum(np.diag(inverse), np.diag(inverse @ spread.T @ spread @ inverse))
        c = 1 + more
        if len(error) == 1:                                 # one number: no spread to estimate
            variance *= np.maximum(np.abs(c), 1) ** 2
        return c, BARS * np.sqrt(variance) / scale + 1e-3 * np.abs(c) + 1e-6


def likeliest(fits: dict[str, float]) -> list[str]:
    """Return the text with the least misfit, and up to two that are about as likely.

    >>> likeliest({"rounded": np.inf, "halved": 7.0, "lost": 5.0, "doubled": 90.0})
    ['lost', 'or: halved']
    """
    best = min(fits.values(), default=np.inf)
    likely = [text for text, misfit in sorted(fits.items(), key=lambda item: item[1])
              if misfit < np.inf and misfit <= PEER * best + 0.5]
    return likely[:1] + [f"or: {text}" for text in likely[1:3]]


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(array) for array in arrays])
