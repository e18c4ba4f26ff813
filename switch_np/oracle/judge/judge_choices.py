"""Judge a kernel's decisions, then replay them, so that the numbers can be judged apart.

tau, how close two scores must be to count as a near-tie, is TAU times the noise of a token's
scores. Experts within tau of the cut are legal. Which choices are kept must follow from the experts
by the capacity's rule, exactly. Where a kernel does not say what it chose, and a token lies at a
near-tie, its y says it: if it is wrong under the reference's own choice, and another one explains
it far better, that is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from switch_np import switch_layer
from switch_np.conventions import choose, serve
from switch_np.conventions.noise import Noise
from switch_np.oracle.judge.choices import FLIP, SAME, WRONG, RoutingReport, compare_routing
from switch_np.oracle.judge.tensor import RMS_LIMIT, describe, tensor_verdict
from switch_np.oracle.truth.decisions import as_plan, by_token, check_keys
from switch_np.oracle.truth.reference import Reference, solve
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

TAU = 8.0
MOST = 16                            # near-ties that are worked out from y


class Replayed(NamedTuple):
    """The verdict on decisions, and the reference under them.

    `unsure`: whether flips at near-ties that nobody told of may explain what is wrong. `given`: the
    decisions as they came.
    """

    reference: Reference
    routing: RoutingReport | None
    errors: list[str]
    notes: list[str]
    unsure: bool
    given: dict[str, Any] | None


def decisions(plan: Any, expert: Any, kept: Any, slot: Any) -> dict[str, Any] | None:
    """Return the decisions as a dict, whichever way they were handed in."""
    if plan is not None:
        if any(value is not None for value in (expert, kept, slot)):
            raise ValueError("plan must come without expert, kept and slot, got both")
        if isinstance(plan, Plan):
            return {"expert": plan.expert, "kept": plan.kept}
        if isinstance(plan, Mapping):
            check_keys(plan)
        return dict(plan) if isinstance(plan, Mapping) else {"expert": plan}
    if expert is None:
        if kept is not None or slot is not None:
            raise ValueError("expert must be handed in along with kept and slot, got None")
        return None
    return {"expert": expert, "kept": kept, "slot": slot}


def tau(ref: Reference, precision: str) -> np.ndarray:
    """Return (T,) how close two of a token's scores must be to count as a near-tie."""
    return TAU * 2 * ref.sigma(precision)["scores"].max(axis=1, initial=0.0)


def replayed(ref: Reference, given: dict[str, Any] | None, y: np.ndarray | None,
             precision: str) -> Replayed:
    """Return the verdict on these decisions, and the reference that replays them."""
    tau_T = tau(ref, precision)
    if given is None:
        return _infer(ref, y, tau_T, precision)
    p, notes = ref.problem, []
    wanted_TK = ref.plan.expert
    told = {name: by_token(name, value, len(wanted_TK)) for name, value in given.items()
            if value is not None}
    k = told["expert"].shape[1]
    if k != wanted_TK.shape[1]:
        inferred = _infer(ref, y, tau_T, precision)
        return inferred._replace(errors=[
            f"the kernel made {k} choice{'s' * (k != 1)} per token, want {wanted_TK.shape[1]}"])
    for name, value in told.items():
        if value.shape != wanted_TK.shape:
            raise ValueError(f"{name} must hold {wanted_TK.shape[1]} choices for each of "
                             f"{len(wanted_TK)} tokens, got shape {value.shape}")
    expert_TK = told["expert"]
    counts_T = np.ones(len(wanted_TK), bool)
    if p.padding is not None and p.config.conventions.padding_routing == "left_out":
        counts_T = ~p.padding.reshape(-1)
        expert_TK = np.where(counts_T[:, None], expert_TK, wanted_TK)
    routing = _routing(ref, expert_TK, tau_T)
    errors = [f"wrong experts: {routing}"] if not routing.ok else []
    if np.isinf(routing.gap[routing.status == WRONG]).any():              # ids that are none
        return Replayed(ref, routing, errors, notes, False, given)
    order_TK = _order(ref, expert_TK, tau_T)
    expert_TK = np.take_along_axis(expert_TK, order_TK, axis=1)
    plan = ref.plan if (expert_TK == wanted_TK).all() else _plan(ref, expert_TK)
    if "kept" in told:
        kept_TK = np.take_along_axis(told["kept"].astype(bool), order_TK, axis=1)
        kept_TK &= counts_T[:, None]
        near_T1 = (not p.config.conventions.papers) & (ref.margin <= tau_T)[:, None]
        errors += _kept_errors(plan, np.where(near_T1, plan.kept, kept_TK))
        if (kept_TK != plan.kept).any():
            roomy = replace(p.config, capacity=max(int(kept_TK.sum()), 1),
                            layout="packed")
            plan = _as_plan(ref, {"expert": expert_TK, "kept": kept_TK}, roomy)
    if "slot" in told and not errors:
        errors += _slot_errors(plan, np.take_along_axis(told["slot"], order_TK, axis=1))
    if plan is not ref.plan:
        notes.append("the numbers are judged under the kernel's own decisions")
        ref = solve(p, plan, ref.precision)
    return Replayed(ref, routing, errors, notes, False, given)


def _routing(ref: Reference, expert_TK: np.ndarray, tau_T: np.ndarray) -> RoutingReport:
    """Return the verdict on the experts of every token.

    Where they are not simply those of the k best scores (groups of experts, a sampled second
    choice), a token's choices are legal if they are the reference's, or its margin is within tau.
    """
    wanted_TK = ref.plan.expert
    if by_score(ref.problem.config):
        found = compare_routing(ref.scores, expert_TK, tau=tau_T)
        # A replayed plan need not be the k best; whoever follows it is right.
        follows_T = (np.sort(expert_TK, axis=1) == np.sort(wanted_TK, axis=1)).all(axis=1)
        return replace(found, status=np.where(follows_T, SAME, found.status).astype(np.int8))
    valid_T = (np.diff(np.sort(expert_TK, axis=1), axis=1) > 0).all(axis=1) & (
        (expert_TK >= 0) & (expert_TK < ref.scores.shape[1])).all(axis=1)
    other_T = (np.sort(expert_TK, axis=1) != np.sort(wanted_TK, axis=1)).any(axis=1)
    near_T = ref.margins.choice <= tau_T
    status_T = np.where(other_T & ~(near_T & valid_T), WRONG, np.where(other_T, FLIP, SAME))
    return RoutingReport(status_T.astype(np.int8), np.where(valid_T, ref.margins.choice, np.inf),
                         tau_T, expert_TK, wanted_TK)


def by_score(config: SwitchConfig) -> bool:
    """Whether a token's experts are just the k best scores."""
    rules = config.conventions
    return (rules.chooser == "tokens" and rules.select_groups == 1
            and rules.second_choice == "largest")


def _plan(ref: Reference, expert_TK: np.ndarray) -> Plan:
    """Return the plan that follows from these experts by the config's own rules."""
    p = ref.problem
    asked_TK = choose.wanted(expert_TK, ref.probs, p.config.conventions, p.noise or Noise())
    return serve.serve(
        expert_TK, asked_TK, ref.probs, ref.logits, p.config, noise=p.noise or Noise(),
        training=p.training, num_groups=len(ref.plan.load),
        padding_T=None if p.padding is None else p.padding.reshape(-1))


def _as_plan(ref: Reference, given: dict[str, Any], config: SwitchConfig) -> Plan:
    p = ref.problem
    return as_plan(given, config, len(ref.scores), num_groups=len(ref.plan.load),
                   padding_T=None if p.padding is None else p.padding.reshape(-1),
                   training=p.training)


def _order(ref: Reference, expert_TK: np.ndarray, tau_T: np.ndarray) -> np.ndarray:
    """Return the order (T, K) in which to take a token's experts.

    A list of experts may be sorted by anything. What the scores tell apart they put in order;
    near-ties, and what is the reference's own row, stay as they came.
    """
    order_TK = np.broadcast_to(np.arange(expert_TK.shape[1]), expert_TK.shape).copy()
    if not by_score(ref.problem.config):
        same_T = (np.sort(expert_TK, axis=1) == np.sort(ref.plan.expert, axis=1)).all(axis=1)
        place_TK = np.argsort(np.argsort(ref.plan.expert[same_T], axis=1), axis=1)
        order_TK[same_T] = np.take_along_axis(np.argsort(expert_TK[same_T], axis=1), place_TK, 1)
        return order_TK
    chosen_TK = np.take_along_axis(ref.scores, expert_TK, axis=1)
    mixed_T = (np.diff(chosen_TK, axis=1) > tau_T[:, None]).any(axis=1) & (
        expert_TK != ref.plan.expert).any(axis=1)
    order_TK[mixed_T] = np.argsort(-chosen_TK[mixed_T], axis=1, kind="stable")
    return order_TK


def _kept_errors(plan: Plan, kept_TK: np.ndarray) -> list[str]:
    """Return what is wrong with who was kept, if anything."""
    wrong = np.argwhere(kept_TK != plan.kept)
    if not len(wrong):
        return []
    token, choice = map(int, wrong[0])
    e, g = int(plan.expert[token, choice]), int(plan.group[token])
    who = f"token {token}, choice {choice}"
    load, capacity = int(plan.load[g, e]), plan.capacity
    text = (f"{who} is kept, want dropped" if kept_TK[token, choice] else
            f"{who} is dropped, want kept in slot {plan.slot[token, choice]}")
    return [f"{text}: expert {e} has {load} choices for {capacity} slots, {describe(token, plan)}; "
            f"{len(wrong)} such choices, {kept_TK.sum()} kept in all, want {plan.kept.sum()}"]


def _slot_errors(plan: Plan, slot_TK: np.ndarray) -> list[str]:
    """Return what is wrong with the slots of kept choices: out of range, or one given twice."""
    token_N, choice_N = np.nonzero(plan.kept)
    slot_N = slot_TK[token_N, choice_N]
    expert_N, group_N = plan.expert[token_N, choice_N], plan.group[token_N]
    bad_N = (slot_N < 0) | (slot_N >= max(plan.capacity, 1))
    if bad_N.any():
        i = int(bad_N.argmax())
        return [f"slot {slot_N[i]} of token {token_N[i]} is outside 0 .. {plan.capacity - 1}"]
    order = np.lexsort((slot_N, expert_N, group_N))
    same = (np.diff(slot_N[order]) == 0) & (np.diff(expert_N[order]) == 0) & (
        np.diff(group_N[order]) == 0)
    if same.any():
        i, j = order[same.argmax()], order[same.argmax() + 1]
        return [f"slot {slot_N[i]} of expert {expert_N[i]} is given twice, to tokens {token_N[i]} "
                f"and {token_N[j]}"]
    return []


def _infer(ref: Reference, y: np.ndarray | None, tau_T: np.ndarray, precision: str) -> Replayed:
    """Return the reference under the choices that explain y, where tokens lie at near-ties."""
    near = np.flatnonzero(ref.margin <= tau_T)
    nothing = Replayed(ref, None, [], [], bool(len(near)), None)
    sigma = ref.sigma(precision)["y"]
    if (y is None or not np.isfinite(y).all() or not sigma.any() or not 0 < len(near) <= MOST
            or not by_score(ref.problem.config) or tensor_verdict("y", y, ref.y, sigma, ref).ok):
        return nothing
    p, best = ref.problem, ref.plan
    sigma = np.maximum(sigma, np.median(sigma[sigma > 0]))     # some rows are 0 under other choices
    error = (((y - ref.y) / sigma) ** 2).sum()
    while True:
        found = []
        for token in near:
            for row in _alternatives(ref.scores[token], best.expert[token], tau_T[token]):
                expert_TK = best.expert.copy()
                expert_TK[token] = row
                plan = _plan(ref, expert_TK)
                out, _ = switch_layer.forward(p.params, p.x, p.config, plan=plan, padding=p.padding,
                                       noise=p.noise, training=p.training)
                found.append(((((y - out.y) / sigma) ** 2).sum(), len(found), plan))
        least, _, plan = min(found, default=(error, 0, best))
        if least >= error - RMS_LIMIT ** 2 * y.shape[-1]:      # no more than a row's noise
            break
        error, best = least, plan
    if best is ref.plan:
        return nothing._replace(unsure=False)                  # no flip helps y
    moved = np.flatnonzero((best.expert != ref.plan.expert).any(axis=1))
    note = (f"legal flip at a near-tie inferred from y: token {', '.join(map(str, moved))}; hand "
            "in expert= to have it judged")
    return Replayed(solve(p, best, ref.precision), None, [], [note], True, None)


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
