"""Choices that the kernel did not report: inferred from its y, or allowed for as noise.

At a near-tie another choice is as right as the reference's. It is assumed if y is wrong under the
reference's choices and the other one explains it far better (`infer`). Where y cannot tell, sigma
grows by how far such flips move each number; an error beyond even that is no flip's (`spread`).
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from switch_np import plans
from switch_np.conventions import choose, serve
from switch_np.conventions.noise import Noise
from switch_np.oracle.judge.tensor import RMS_LIMIT, tensor_verdict
from switch_np.oracle.truth.reference import Reference, outputs_of
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

MOST = 16            # most near-ties to infer where one flip may drop other tokens
MOVES = 32           # random moves of the scores by which other choices are found
SAMPLES = 12         # random moves of the scores by which the effect of flips is measured

Errors = Callable[[Plan], np.ndarray]                    # (T,) mean squared errors of y


def infer(ref: Reference, y: np.ndarray | None, tau_T: np.ndarray,
          precision: str) -> tuple[Plan, bool]:
    """Return the plan that explains y, and whether unknown flips may still explain what is wrong.

    If y is right under the reference's own choices, or no flip helps, this is the reference's plan.
    """
    near = np.flatnonzero(ref.margin <= tau_T)
    sigma = ref.sigma(precision)["y"]
    if y is None or not np.isfinite(y).all() or not sigma.any():
        return ref.plan, bool(len(near))
    if tensor_verdict("y", y, ref.y, sigma, ref).ok:
        # A right y confirms the experts; with k > 1 it may not tell which came first.
        return ref.plan, bool(len(near)) and ref.plan.expert.shape[1] > 1 and (
            ref.problem.config.conventions.balance_counts == "first" or not ref.plan.kept.all())
    p = ref.problem
    # Where nothing is dropped, a token's y depends only on its own choices.
    alone = not p.limited
    if not len(near) or not own_choices(p.config) or (len(near) > MOST and not alone):
        return ref.plan, bool(len(near))
    # Sigma needs a floor, since a row that is 0 here may not be 0 under other choices.
    errors = partial(_errors, ref, y, np.maximum(sigma, np.median(sigma[sigma > 0])))
    plan = (_token_by_token if alone else _one_flip_after_another)(ref, errors, near, tau_T)
    return plan, plan is not ref.plan                          # no flip helps y: nothing is unsure


def _token_by_token(ref: Reference, errors: Errors, near: np.ndarray, tau_T: np.ndarray) -> Plan:
    """Return the plan whose choices make wrong rows of y right."""
    rows = {token: _alternatives(ref, token, tau_T[token]) for token in near}
    best_TK, error_T = ref.plan.expert.copy(), np.where(errors(ref.plan) > 1, 1.0, 0.0)
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
        if least >= error - 1:
            return best
        error, best = least, plan


def _errors(ref: Reference, y: np.ndarray, sigma: np.ndarray, plan: Plan) -> np.ndarray:
    """Return (T,) the mean squared errors of y under a plan; above 1 they are more than noise."""
    error = (y - ref.problem.forward(plan)[0].y) / (RMS_LIMIT * sigma)
    errors_T: np.ndarray = (error ** 2).reshape(-1, y.shape[-1]).mean(axis=1)
    return errors_T


def _alternatives(ref: Reference, token: int, tau: float,
                  chosen_K: np.ndarray | None = None) -> list[np.ndarray]:
    """Return other legal rows: a near expert in place of one chosen, or two in other order.

    Where experts are not just the k best, alternatives are found by moving the scores at random.
    """
    chosen_K = ref.plan.expert[token] if chosen_K is None else chosen_K
    scores_E = ref.scores[token]
    if not by_score(ref.problem.config):
        p, rng = ref.problem, np.random.default_rng(0)
        moved_SE = tau * rng.uniform(-1, 1, (MOVES, len(scores_E)))
        logits_SE, conventions = ref.logits[token] + moved_SE, p.config.conventions
        ranked_SE = choose.ranked(ref.probs[token] + moved_SE, logits_SE, conventions, Noise(),
                                  p.params.get("select_bias"))
        rows_SK = choose.choose(ranked_SE, logits_SE, len(chosen_K), conventions, Noise())
        return [row for row in np.unique(rows_SK, axis=0) if (row != chosen_K).any()]
    rows = []
    for k, e in enumerate(chosen_K):
        near = np.abs(scores_E - scores_E[e]) <= tau
        for other in np.flatnonzero(near & (np.arange(len(near)) != e)):
            row = chosen_K.copy()
            row[row == other] = e
            row[k] = other
            rows.append(row)
    return rows


def own_choices(config: SwitchConfig) -> bool:
    """Whether a token's experts follow from its scores alone."""
    conventions = config.conventions
    return conventions.chooser == "tokens" and conventions.second_choice == "largest"


def by_score(config: SwitchConfig) -> bool:
    """Whether a token's experts are just the k best scores."""
    return own_choices(config) and config.conventions.select_groups == 1


def plan_of(ref: Reference, expert_TK: np.ndarray) -> Plan:
    """Return the plan that follows from these experts by the config's own rules."""
    p, noise = ref.problem, ref.problem.noise or Noise()
    asked_TK = choose.wanted(expert_TK, ref.probs, p.config.conventions, noise)
    return serve.serve(expert_TK, asked_TK, ref.probs, ref.logits, p.config, noise=noise,
                       num_groups=len(ref.plan.load), padding_T=p.padding_T, training=p.training)


def spread(ref: Reference, tau_T: np.ndarray) -> dict[str, np.ndarray]:
    """Return how far flips move each of `ref.outputs()`, as a root mean square.

    The scores of tokens within tau_T (T,) of a tie are moved at random, and everything is decided
    again by the config's own rules. Infinite in the rows of y and d_x of tokens at an expert over
    its capacity: whether they are kept depends on more flips at once than samples can show.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> config = SwitchConfig(num_experts=2, capacity_factor=None)
    >>> ref = reference(**draw(config, 8, d_model=4, d_ff=6))
    >>> [bool(spread(ref, np.full(8, tau))["y"].any()) for tau in (0, 1)]
    [False, True]
    """
    p, rng = ref.problem, np.random.default_rng(0)
    reach_T1 = np.where(ref.margin <= tau_T, tau_T, 0.0)[:, None]
    wanted = ref.outputs()
    squares = {name: np.zeros(value.shape) for name, value in wanted.items()}
    contested_T = plans.contested(ref.plan)
    for _ in range(SAMPLES):
        moved_TE = rng.uniform(-1, 1, ref.scores.shape) * reach_T1
        plan = serve.decide(ref.probs + moved_TE, ref.logits + moved_TE, p.config,
                            num_groups=len(ref.plan.load), padding_T=p.padding_T,
                            noise=p.noise or Noise(), bias_E=p.params.get("select_bias"),
                            training=p.training)
        contested_T = contested_T | plans.contested(plan)
        for name, value in outputs_of(p, plan)[1].items():
            squares[name] += (value - wanted[name]) ** 2
    if reach_T1.any():
        for name in ("y", "d_x"):
            squares[name][contested_T.reshape(squares[name].shape[:-1])] = np.inf
    return {name: np.sqrt(square / SAMPLES) for name, square in squares.items()}
