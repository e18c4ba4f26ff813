"""The choices that a kernel did not tell, as far as its y tells them.

Where a token lies at a near tie, another choice is as right as the reference's. It is taken if y is
wrong under the reference's own choices and that one explains it far better.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from switch_np.conventions import choose, serve
from switch_np.conventions.noise import Noise
from switch_np.oracle.judge.tensor import RMS_LIMIT, tensor_verdict
from switch_np.oracle.truth.reference import Reference
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

MOST = 16            # near ties that are worked out from y where one flip may drop other tokens
MOVES = 32           # random moves of the scores by which other choices are found

Errors = Callable[[Plan], np.ndarray]                    # (T,) squared errors of y, in sigmas


def infer(ref: Reference, y: np.ndarray | None, tau_T: np.ndarray,
          precision: str) -> tuple[Plan, bool]:
    """Return the plan that explains y, and whether unknown flips may still explain what is wrong.

    Where y is right under the reference's own choices, or no flip helps, the plan is its own.
    """
    near = np.flatnonzero(ref.margin <= tau_T)
    sigma = ref.sigma(precision)["y"]
    if y is None or not np.isfinite(y).all() or not sigma.any():
        return ref.plan, bool(len(near))
    if tensor_verdict("y", y, ref.y, sigma, ref).ok:
        # A right y confirms the experts; with k > 1 it may not tell which came first.
        return ref.plan, bool(len(near)) and ref.plan.expert.shape[1] > 1 and (
            ref.problem.config.conventions.balance_counts == "first"
            or not ref.plan.kept.all())
    alone, own = _never_drops(ref), _own_choices(ref.problem.config)
    if not len(near) or not own or (len(near) > MOST and not alone):
        return ref.plan, bool(len(near))
    errors = partial(_errors, ref, y, np.maximum(sigma, np.median(sigma[sigma > 0])))
    plan = (_token_by_token if alone else _one_flip_after_another)(ref, errors, near, tau_T)
    return plan, plan is not ref.plan                          # no flip helps y: nothing is unsure


def _never_drops(ref: Reference) -> bool:
    """Whether a token's y hangs on its own choices alone."""
    p = ref.problem
    group_size = len(ref.scores) // len(ref.plan.load)
    return p.config.expert_capacity(group_size, p.training) is None


def _token_by_token(ref: Reference, errors: Errors, near: np.ndarray, tau_T: np.ndarray) -> Plan:
    """Return the plan in which each token has the choices that explain its row of y best."""
    rows = {token: _alternatives(ref, token, tau_T[token]) for token in near}
    best_TK, error_T = ref.plan.expert.copy(), errors(ref.plan) - _row_noise(ref)
    for i in range(max(map(len, rows.values()), default=0)):
        expert_TK = ref.plan.expert.copy()
        for token, others in rows.items():
            expert_TK[token] = others[i] if i < len(others) else expert_TK[token]
        found_T = errors(plan_of(ref, expert_TK))
        better_T = found_T < error_T
        best_TK[better_T], error_T[better_T] = expert_TK[better_T], found_T[better_T]
    return ref.plan if (best_TK == ref.plan.expert).all() else plan_of(ref, best_TK)


def _one_flip_after_another(ref: Reference, errors: Errors, near: np.ndarray,
                            tau_T: np.ndarray) -> Plan:
    """Return the plan with the flips that explain y best; one may change who else is dropped."""
    best, error = ref.plan, errors(ref.plan).sum()
    while True:
        found: list[tuple[float, int, Plan]] = []
        for token in near:
            for row in _alternatives(ref, token, tau_T[token], best.expert[token]):
                expert_TK = best.expert.copy()
                expert_TK[token] = row
                plan = plan_of(ref, expert_TK)
                found.append((errors(plan).sum(), len(found), plan))
        least, _, plan = min(found, default=(error, 0, best))
        if least >= error - _row_noise(ref):
            return best
        error, best = least, plan


def _row_noise(ref: Reference) -> float:
    """Return the squared error of a row of y, in sigmas, that is no more than noise."""
    return float(RMS_LIMIT ** 2 * ref.y.shape[-1])


def _errors(ref: Reference, y: np.ndarray, sigma: np.ndarray, plan: Plan) -> np.ndarray:
    """Return (T,) the squared errors of y under a plan, in sigmas.

    Sigma has a floor, since a row may be 0 under other choices.
    """
    out, _ = ref.problem.forward(plan)
    errors_T: np.ndarray = (((y - out.y) / sigma) ** 2).reshape(-1, y.shape[-1]).sum(axis=1)
    return errors_T


def _alternatives(ref: Reference, token: int, tau: float,
                  chosen_K: np.ndarray | None = None) -> list[np.ndarray]:
    """Return other legal rows: a near expert in place of one chosen, or two in other order.

    Where experts are not just those of the best scores, they are found by moving scores at random.
    """
    chosen_K = ref.plan.expert[token] if chosen_K is None else chosen_K
    scores_E = ref.scores[token]
    if not by_score(ref.problem.config):
        p, rng = ref.problem, np.random.default_rng(0)
        moved_SE = tau * rng.uniform(-1, 1, (MOVES, len(scores_E)))
        logits_SE = ref.logits[token] + moved_SE
        conventions, noise = p.config.conventions, Noise()
        ranked_SE = choose.ranked(ref.probs[token] + moved_SE, logits_SE, conventions, noise,
                                  p.params.get("select_bias"))
        rows_SK = choose.choose(ranked_SE, logits_SE, len(chosen_K), conventions, noise)
        return [row for row in np.unique(rows_SK, axis=0) if (row != chosen_K).any()]
    rows = []
    for k, e in enumerate(chosen_K):
        for other in np.flatnonzero(np.abs(scores_E - scores_E[e]) <= tau):
            if other != e:
                row = chosen_K.copy()
                row[row == other] = e
                row[k] = other
                rows.append(row)
    return rows


def _own_choices(config: SwitchConfig) -> bool:
    """Whether a token's experts follow from its scores alone."""
    conventions = config.conventions
    return conventions.chooser == "tokens" and conventions.second_choice == "largest"


def by_score(config: SwitchConfig) -> bool:
    """Whether a token's experts are just the k best scores."""
    conventions = config.conventions
    return _own_choices(config) and conventions.select_groups == 1


def plan_of(ref: Reference, expert_TK: np.ndarray) -> Plan:
    """Return the plan that follows from these experts by the config's own rules."""
    p = ref.problem
    asked_TK = choose.wanted(expert_TK, ref.probs, p.config.conventions, p.noise or Noise())
    return serve.serve(
        expert_TK, asked_TK, ref.probs, ref.logits, p.config, noise=p.noise or Noise(),
        training=p.training, num_groups=len(ref.plan.load),
        padding_T=p.padding_T)
