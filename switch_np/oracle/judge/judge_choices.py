"""Judge a kernel's decisions, then replay them, so that the numbers can be judged apart.

tau, how close two scores must be to count as a near-tie, is TAU times the noise of a token's
scores. Experts within tau of the cut are legal. Which choices are kept must follow exactly from the
experts and the capacity. For choices that were not given, see `unreported_choices`.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations.roundoff import named
from switch_np.oracle.judge.choices import (
    FLIP, SAME, WRONG, RoutingReport, compare_routing, same_experts, valid)
from switch_np.oracle.judge.tensor import describe
from switch_np.oracle.judge.unreported_choices import by_score, infer, own_choices, plan_of
from switch_np.oracle.truth.decisions import as_dict, by_token
from switch_np.oracle.truth.reference import Reference, planned, solve
from switch_np.switch.plan import Plan

TAU = 8.0


class Replayed(NamedTuple):
    """The verdict on decisions, and the reference under them."""

    reference: Reference
    routing: RoutingReport | None
    errors: list[str]
    notes: list[str]
    unsure: bool                        # whether unknown flips may explain what is wrong
    given: dict[str, Any] | None        # the decisions as they came


def decisions(plan: Any, expert: Any, kept: Any, slot: Any) -> dict[str, Any] | None:
    """Return the decisions as a dict, whichever way they were given."""
    single = {name: value for name, value in (("expert", expert), ("kept", kept), ("slot", slot))
              if value is not None}
    if plan is None:
        if single and expert is None:
            raise ValueError("expert must be given along with kept or slot, got None")
        return single or None
    if single:
        raise ValueError("plan must come without expert, kept and slot, got both")
    return as_dict(plan)


def tau(ref: Reference, precision: str) -> np.ndarray:
    """Return (T,) how close two of a token's scores must be to count as a near-tie.

    A selection bias may be far larger than the scores, and rounds them when it is added.
    """
    tau_T: np.ndarray = TAU * 2 * ref.sigma(precision)["scores"].max(axis=1, initial=0.0)
    if "select_bias" in ref.problem.params:
        unit = named(ref.judged_in.get("scores", precision)).accumulate
        tau_T += 4 * unit * np.abs(ref.finite_scores).max(axis=1, initial=0.0)
    return tau_T


def replayed(ref: Reference, given: dict[str, Any] | None, y: np.ndarray | None,
             precision: str) -> Replayed:
    """Return the verdict on these decisions, and the reference that replays them."""
    tau_T = tau(ref, precision)
    if given is None:                      # a replayed plan is the kernel's own
        return Replayed(ref, None, [], [], False, None) if ref.replays else _untold(
            ref, y, tau_T, precision)
    p, wanted_TK = ref.problem, ref.plan.expert
    told = {name: by_token(name, value, len(wanted_TK)) for name, value in given.items()}
    expert_TK = told["expert"]
    if (k := expert_TK.shape[1]) != wanted_TK.shape[1]:
        return _untold(ref, y, tau_T, precision)._replace(errors=[
            f"the kernel made {k} choice{'s' * (k != 1)} per token, want {wanted_TK.shape[1]}"])
    for name, value in told.items():
        if value.shape != wanted_TK.shape:
            raise ValueError(f"{name} must hold {k} choices for each of {len(wanted_TK)} tokens, "
                             f"got shape {value.shape}")
    if not p.served_T.all():                              # ids at padding are no choices
        expert_TK = np.where(p.served_T[:, None], expert_TK, wanted_TK)
    routing = routing_of(ref, expert_TK, tau_T)
    errors = [f"wrong experts: {routing}"] if not routing.ok else []
    if np.isinf(routing.gap[routing.status == WRONG]).any():              # invalid ids
        return Replayed(ref, routing, errors, [], False, given)
    order_TK = _order(ref, expert_TK, tau_T)
    expert_TK = np.take_along_axis(expert_TK, order_TK, axis=1)
    plan = ref.plan if (expert_TK == wanted_TK).all() else plan_of(ref, expert_TK)
    if "kept" in told:
        kept_TK = p.served_T[:, None] & np.take_along_axis(told["kept"] != 0, order_TK, axis=1)
        near_T1 = (not p.config.conventions.papers) & (ref.margin <= tau_T)[:, None]
        errors += _kept_errors(plan, np.where(near_T1, plan.kept, kept_TK))
        if (kept_TK != plan.kept).any():
            plan = planned(p, plan, kept_TK)
    if "slot" in told and not errors:
        errors += _slot_errors(plan, np.take_along_axis(told["slot"], order_TK, axis=1))
    if plan is ref.plan:
        return Replayed(ref, routing, errors, [], False, given)
    return Replayed(_under(plan, ref), routing, errors, [
        "the numbers are judged under the kernel's own decisions"], False, given)


def _untold(ref: Reference, y: np.ndarray | None, tau_T: np.ndarray, precision: str) -> Replayed:
    """Return the reference under the choices that explain y, where none were given."""
    plan, unsure = infer(ref, y, tau_T, precision)
    if plan is ref.plan:
        return Replayed(ref, None, [], [], unsure, None)
    moved = np.flatnonzero((plan.expert != ref.plan.expert).any(axis=1))
    note = (f"legal flip at a near-tie inferred from y: token {', '.join(map(str, moved))}; pass "
            "expert= to have it judged")
    return Replayed(_under(plan, ref), None, [], [note], unsure, None)


def _under(plan: Plan, ref: Reference) -> Reference:
    return replace(solve(ref.problem, plan, ref.precision), judged_in=ref.judged_in)


def routing_of(ref: Reference, expert_TK: np.ndarray, tau_T: np.ndarray) -> RoutingReport:
    """Return the verdict on the experts of every token.

    Where they are not simply those of the k best scores (groups of experts, a sampled second
    choice), a token's choices are legal if they are the reference's, or its margin is within tau.
    """
    wanted_TK = ref.plan.expert
    same_T = same_experts(expert_TK, wanted_TK)
    if by_score(ref.problem.config):
        found = compare_routing(ref.scores, expert_TK, tau=tau_T)
        # A replayed plan need not be the k best: following it is right.
        return replace(found, status=np.where(same_T, SAME, found.status).astype(np.int8))
    gap_T = np.where(valid(expert_TK, ref.scores.shape[1]), ref.margins.choice, np.inf)
    status_T = np.where(same_T, SAME, np.where(gap_T <= tau_T, FLIP, WRONG))
    return RoutingReport(status_T.astype(np.int8), gap_T, tau_T, expert_TK, wanted_TK)


def _order(ref: Reference, expert_TK: np.ndarray, tau_T: np.ndarray) -> np.ndarray:
    """Return the order (T, K) in which to take a token's experts.

    A list of experts may come in any order. It is sorted by score where the scores differ clearly;
    near-ties, and rows equal to the reference's, stay as they came.
    """
    order_TK = np.broadcast_to(np.arange(expert_TK.shape[1]), expert_TK.shape).copy()
    if not own_choices(ref.problem.config):
        same_T = same_experts(expert_TK, ref.plan.expert)
        place_TK = np.argsort(np.argsort(ref.plan.expert[same_T], axis=1), axis=1)
        order_TK[same_T] = np.take_along_axis(np.argsort(expert_TK[same_T], axis=1), place_TK, 1)
        return order_TK
    chosen_TK = np.take_along_axis(ref.scores, expert_TK, axis=1)
    chosen_TK[np.isinf(chosen_TK).any(axis=1)] = 0.0          # of a closed group: as they came
    mixed_T = (np.diff(chosen_TK, axis=1) > tau_T[:, None]).any(axis=1) & (
        expert_TK != ref.plan.expert).any(axis=1)
    order_TK[mixed_T] = np.argsort(-chosen_TK[mixed_T], axis=1, kind="stable")
    return order_TK


def _kept_errors(plan: Plan, kept_TK: np.ndarray) -> list[str]:
    """Return what is wrong with the kept choices, if anything."""
    wrong = np.argwhere(kept_TK != plan.kept)
    if not len(wrong):
        return []
    token, choice = map(int, wrong[0])
    e, load_E = plan.expert[token, choice], plan.load[plan.group[token]]
    text = ("is kept, want dropped" if kept_TK[token, choice] else
            f"is dropped, want kept in slot {plan.slot[token, choice]}")
    return [f"token {token}, choice {choice} {text}: expert {e} has {load_E[e]} choices for "
            f"{plan.capacity} slots (right: {describe(token, plan)}); {len(wrong)} choices like "
            f"this, {kept_TK.sum()} kept in all, want {plan.kept.sum()}"]


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
    same = (np.diff([slot_N[order], expert_N[order], group_N[order]], axis=1) == 0).all(axis=0)
    if same.any():
        i, j = order[same.argmax()], order[same.argmax() + 1]
        return [f"slot {slot_N[i]} of expert {expert_N[i]} is given twice, to tokens {token_N[i]} "
                f"and {token_N[j]}"]
    return []
