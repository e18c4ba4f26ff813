"""Does a suspect explain what came? With it in the truth's place, the verdict would be right.

A suspect is what a kernel with some bug would give. It is held against the limits of the verdict
itself: at half of them where a tensor has failed, so that it fits at least twice as well as the
truth, and whole where the tensor is right. Its noise is the truth's, plus some for what it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from switch_np.oracle.judge.judge_choices import Replayed
from switch_np.oracle.judge.tensor import deviations, tensor_verdict
from switch_np.oracle.truth.decisions import as_plan, by_token
from switch_np.oracle.truth.reference import Problem, Reference, solve
from switch_np.oracle.truth.roundoff import named
from switch_np.switch.plan import Plan

BARS = 5.0                            # an error bar is so many standard errors, and some rounding
PEER = 1.3                            # whose error is at most so many times the least is as likely


@dataclass(frozen=True)
class Evidence:
    """What came, all of it finite, and what is known of it.

    Attributes
    ----------
    ref, replayed
        The reference as it was handed in, and under the kernel's own decisions.
    got
        The tensors, as `Reference.outputs` names them.
    failed
        Names of the tensors whose verdict is wrong.
    precision
        By which the errors are measured.
    """

    ref: Reference
    replayed: Replayed
    got: dict[str, np.ndarray]
    failed: frozenset[str]
    precision: str

    @property
    def truth(self) -> Reference:
        """Return the reference under the kernel's own decisions."""
        return self.replayed.reference

    @property
    def legal(self) -> bool:
        """Whether the experts are right, as far as they are known."""
        return self.replayed.routing is None or self.replayed.routing.ok

    @property
    def sigma(self) -> dict[str, np.ndarray]:
        """Return the noise of the truth."""
        return self.truth.sigma(self.precision)

    @cached_property
    def want(self) -> dict[str, np.ndarray]:
        """The truth's tensors."""
        return self.truth.outputs()

    @cached_property
    def undropped(self) -> Reference | None:
        """The truth if no choice were dropped; None where none is, or experts choose."""
        p, plan = self.truth.problem, self.truth.plan
        kept_TK = np.ones(plan.kept.shape, bool)
        if p.padding is not None and p.config.conventions.padding_routing == "left_out":
            kept_TK[p.padding.reshape(-1)] = False
        if p.config.conventions.chooser == "experts" or (kept_TK == plan.kept).all():
            return None
        other = planned(p, plan, kept_TK)
        return solve(p, replace(other, balance_count=plan.balance_count), self.truth.precision)

    @cached_property
    def due(self) -> Plan:
        """The plan that follows from the kernel's experts."""
        plan = self.truth.plan
        same = np.array_equal(plan.expert, self.ref.plan.expert)
        return self.ref.plan if same else planned(self.ref.problem, plan)

    def decides_so(self, expert_TK: np.ndarray, kept_TK: np.ndarray) -> bool:
        """Whether the kernel made these decisions, as far as known, and there is a reason to ask.

        There is none where the tensors and these decisions are right.
        """
        given, plan = self.replayed.given or {}, self.truth.plan
        wanted = {"expert": plan.expert, "kept": plan.kept} if self.legal else {
            name: by_token(name, given[name], len(plan.expert)).astype(int)
            for name in ("expert", "kept") if given.get(name) is not None}
        for name, value in (("expert", expert_TK), ("kept", kept_TK)):
            if given.get(name) is not None and not np.array_equal(value, wanted[name]):
                return False
        return bool(self.failed) or not self.legal or not np.array_equal(kept_TK, self.due.kept)

    def weight(self, name: str) -> np.ndarray:
        """Return 1 / sigma, and 0 where sigma is."""
        sigma = np.asarray(self.sigma[name])
        return np.where(sigma > 0, 1 / np.maximum(sigma, 1e-140), 0.0)

    def misfit(self, name: str, suspect: np.ndarray) -> float:
        """Return the root mean square error in sigmas; infinity where it does not explain it."""
        got, want, sigma = self.got[name], np.asarray(self.want[name]), self.sigma[name]
        if suspect.shape != got.shape or not np.isfinite(suspect).all():
            return np.inf
        if not got.size:
            return 0.0
        some = sigma[sigma > 0]
        usual = np.median(some) / max(np.abs(want).max(), 1e-300) if some.size else 0.0
        change = np.abs(suspect - want)
        # Sums may cancel, those of a row that changes beyond its own size all the more.
        most, own = ((value.max(axis=-1, keepdims=True) if value.ndim else value)
                     for value in (change, np.abs(want)))
        more = 4 * max(usual, named(self.precision).store) * np.where(most > own, 4 * most, most)
        more = more + np.where(sigma == 0, some.min() if some.size else 0.0, 0.0)
        noise = sigma + np.where(change > 0, more, 0.0)
        limit = 0.5 if name in self.failed else 1.0
        if not tensor_verdict(name, got, suspect, limit * noise, self.truth).ok:
            return np.inf
        return float(np.sqrt(np.mean(deviations(got, suspect, noise) ** 2)))

    def total(self, suspects: dict[str, np.ndarray]) -> float:
        """Return the sum of the misfits, of what came."""
        total = 0.0
        for name in sorted(self.got, key=lambda name: name not in self.failed):
            if name in suspects and total < np.inf:
                total += self.misfit(name, suspects[name])
        return total

    def factors(self, parts: dict[str, Sequence[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Return by which factors the parts of the truth came, by least squares, and error bars.

        `parts` has the same number of arrays for each tensor. Errors of a row hang together, as
        they may come from one token's d_logits: an error bar is the larger of what follows from
        sigma and of what follows from the spread over rows.
        """
        weight = _joined([self.weight(name) for name in parts])
        columns = np.stack([_joined(column) for column in zip(*parts.values())], axis=1)
        error = _joined([self.got[name] - self.want[name] for name in parts])
        scale = np.maximum(np.sqrt(((columns * weight[:, None]) ** 2).sum(axis=0)), 1e-300)
        left = columns * weight[:, None] / scale
        inverse, more = np.linalg.pinv(left.T @ left), np.zeros(len(scale))
        for _ in range(2):         # the second round mends what the first one rounded, in float64
            more += inverse @ (left.T @ ((error - columns @ more) * weight)) / scale
        rows = np.concatenate([np.arange(value.size) // value.shape[-1] * len(parts) + i
                               if value.ndim else [i]
                               for i, value in enumerate(self.got[name] for name in parts)])
        over = left * ((error - columns @ more) * weight)[:, None]
        spread = np.stack([np.bincount(rows.astype(int), column) for column in over.T], axis=1)
        variance = np.maximum(np.diag(inverse), np.diag(inverse @ spread.T @ spread @ inverse))
        c = 1 + more
        if len(error) == 1:                        # no spread that would tell that c scales noise
            variance *= np.maximum(np.abs(c), 1) ** 2
        return c, BARS * np.sqrt(variance) / scale + 1e-3 * np.abs(c) + 1e-6


def planned(problem: Problem, plan: Plan, kept_TK: np.ndarray | None = None) -> Plan:
    """Return a problem's own plan of another plan's experts; whom to keep may be given too."""
    p, these, config = problem, {"expert": plan.expert}, problem.config
    if kept_TK is not None:
        these["kept"] = kept_TK
        config = replace(config, capacity=max(kept_TK.size, 1))
    return as_plan(these, config, len(plan.expert), num_groups=len(plan.load),
                   padding_T=None if p.padding is None else p.padding.reshape(-1),
                   training=p.training)


def likeliest(fits: dict[str, float]) -> list[str]:
    """Return the text of the least misfit, and up to two that are about as likely.

    >>> likeliest({"rounded": np.inf, "halved": 7.0, "lost": 5.0, "doubled": 90.0})
    ['lost', 'or: halved']
    """
    best = min(fits.values(), default=np.inf)
    likely = [text for text, misfit in sorted(fits.items(), key=lambda item: item[1])
              if misfit < np.inf and misfit <= PEER * best + 0.5]
    return likely[:1] + [f"or: {text}" for text in likely[1:3]]


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(array) for array in arrays])
