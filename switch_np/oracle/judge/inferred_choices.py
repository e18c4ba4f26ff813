"""The choices that a kernel did not tell, as far as its y tells them.

Where a token lies at a near tie, another choice is as right as the reference's. It is taken if y is
wrong under the reference's own choices and that one explains it far better.
"""

from __future__ import annotations

import numpy as np

from switch_np import switch_layer
from switch_np.conventions import choose, serve
from switch_np.conventions.noise import Noise
from switch_np.oracle.judge.tensor import RMS_LIMIT, tensor_verdict
from switch_np.oracle.truth.reference import Reference
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

MOST = 16                                                # near ties that are worked out from y


def infer(ref: Reference, y: np.ndarray | None, tau_T: np.ndarray,
          precision: str) -> tuple[Plan, bool]:
    """Return the plan that explains y, and whether unknown flips may still explain what is wrong.

    Where y is right under the reference's own choices, or no flip helps, the plan is its own.
    """
    near = np.flatnonzero(ref.margin <= tau_T)
    sigma = ref.sigma(precision)["y"]
    if y is not None and np.isfinite(y).all() and sigma.any() and tensor_verdict(
            "y", y, ref.y, sigma, ref).ok:
        # A right y confirms the experts; with k > 1 it may not tell which came first.
        return ref.plan, bool(len(near)) and ref.plan.expert.shape[1] > 1 and (
            ref.problem.config.conventions.balance_counts == "first"
            or not ref.plan.kept.all())
    if (y is None or not np.isfinite(y).all() or not sigma.any() or not 0 < len(near) <= MOST
            or not by_score(ref.problem.config) or tensor_verdict("y", y, ref.y, sigma, ref).ok):
        return ref.plan, bool(len(near))
    p, best = ref.problem, ref.plan
    sigma = np.maximum(sigma, np.median(sigma[sigma > 0]))     # some rows are 0 under other choices
    error = (((y - ref.y) / sigma) ** 2).sum()
    while True:
        found: list[tuple[float, int, Plan]] = []
        for token in near:
            for row in _alternatives(ref.scores[token], best.expert[token], tau_T[token]):
                expert_TK = best.expert.copy()
                expert_TK[token] = row
                plan = plan_of(ref, expert_TK)
                out, _ = switch_layer.forward(p.params, p.x, p.config, plan=plan, padding=p.padding,
                                              noise=p.noise, training=p.training)
                found.append(((((y - out.y) / sigma) ** 2).sum(), len(found), plan))
        least, _, plan = min(found, default=(error, 0, best))
        if least >= error - RMS_LIMIT ** 2 * y.shape[-1]:      # no more than a row's noise
            break
        error, best = least, plan
    return best, best is not ref.plan                          # no flip helps y: nothing is unsure


def _alternatives(scores_E: np.ndarray, chosen_K: np.ndarray, tau: float) -> list[np.ndarray]:
    """Return the other legal rows: a near expert in place of one chosen, or two in other order."""
    rows = []
    for k, e in enumerate(chosen_K):
        for other in np.flatnonzero(np.abs(scores_E - scores_E[e]) <= tau):
            if other != e:
                row = chosen_K.copy()
                row[row == other] = e
                row[k] = other
                rows.append(row)
    return rows


def by_score(config: SwitchConfig) -> bool:
    """Whether a token's experts are just the k best scores."""
    conventions = config.conventions
    return (conventions.chooser == "tokens" and conventions.select_groups == 1
            and conventions.second_choice == "largest")


def plan_of(ref: Reference, expert_TK: np.ndarray) -> Plan:
    """Return the plan that follows from these experts by the config's own rules."""
    p = ref.problem
    asked_TK = choose.wanted(expert_TK, ref.probs, p.config.conventions, p.noise or Noise())
    return serve.serve(
        expert_TK, asked_TK, ref.probs, ref.logits, p.config, noise=p.noise or Noise(),
        training=p.training, num_groups=len(ref.plan.load),
        padding_T=None if p.padding is None else p.padding.reshape(-1))
