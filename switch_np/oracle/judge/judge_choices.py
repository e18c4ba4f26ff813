"""Judge a kernel's decisions, then replay them, so that the numbers can be judged apart.

tau, how close two scores must be to count as a near-tie, is TAU times the noise of a token's
scores. Experts within tau of the cut are legal. Which choices are kept must follow from the experts
by the capacity's rule, exactly. Choices that a kernel does not tell are inferred from its y.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations.roundoff import named
from switch_np.oracle.judge.choices import FLIP, SAME, WRONG, RoutingReport, compare_routing
from switch_np.oracle.judge.inferred_choices import by_score, infer, own_choices, plan_of
from switch_np.oracle.judge.tensor import describe
from switch_np.oracle.truth.decisions import as_plan, by_token, check_keys
from switch_np.oracle.truth.reference import Reference, solve
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

TAU = 8.0


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
    """Return (T,) how close two of a token's scores must be to count as a near-tie.

    A selection bias may be far larger than the scores, and rounds them when it is added.
    """
    tau_T: np.ndarray = TAU * 2 * ref.sigma(precision)["scores"].max(axis=1, initial=0.0)
    if "select_bias" not in ref.problem.params:
        return tau_T
    size_TE = np.abs(np.where(np.isfinite(ref.scores), ref.scores, 0.0))
    unit = named(ref.judged_in.get("scores", precision)).accumulate
    tau_T += 4 * unit * size_TE.max(axis=1, initial=0.0)
    return tau_T


def replayed(ref: Reference, given: dict[str, Any] | None, y: np.ndarray | None,
             precision: str) -> Replayed:
    """Return the verdict on these decisions, and the reference that replays them."""
    tau_T = tau(ref, precision)
    if given is None and ref.replays:                     # its plan is what the kernel decided
        return Replayed(ref, None, [], [], False, None)
    if given is None:
        return _unsaid(ref, y, tau_T, precision)
    p, wanted_TK = ref.problem, ref.plan.expert
    told = {name: by_token(name, value, len(wanted_TK)) for name, value in given.items()
            if value is not None}
    expert_TK = told["expert"]
    if (k := expert_TK.shape[1]) != wanted_TK.shape[1]:
        return _unsaid(ref, y, tau_T, precision)._replace(errors=[
            f"the kernel made {k} choice{'s' * (k != 1)} per token, want {wanted_TK.shape[1]}"])
    _check_shapes(told, wanted_TK.shape)
    if not p.served_T.all():                              # what stands at padding is no choice
        expert_TK = np.where(p.served_T[:, None], expert_TK, wanted_TK)
    routing = routing_of(ref, expert_TK, tau_T)
    errors = [f"wrong experts: {routing}"] if not routing.ok else []
    if np.isinf(routing.gap[routing.status == WRONG]).any():              # ids that are none
        return Replayed(ref, routing, errors, [], False, given)
    order_TK = _order(ref, expert_TK, tau_T)
    expert_TK = np.take_along_axis(expert_TK, order_TK, axis=1)
    plan = ref.plan if (expert_TK == wanted_TK).all() else plan_of(ref, expert_TK)
    if "kept" in told:
        kept_TK = np.take_along_axis(told["kept"].astype(bool), order_TK, axis=1)
        kept_TK &= p.served_T[:, None]
        near_T1 = (not p.config.conventions.papers) & (ref.margin <= tau_T)[:, None]
        errors += _kept_errors(plan, np.where(near_T1, plan.kept, kept_TK))
        if (kept_TK != plan.kept).any():
            roomy = replace(p.config, capacity=max(int(kept_TK.sum()), 1),
                            layout="packed")
            plan = _as_plan(ref, {"expert": expert_TK, "kept": kept_TK}, roomy)
    if "slot" in told and not errors:
        errors += _slot_errors(plan, np.take_along_axis(told["slot"], order_TK, axis=1))
    if plan is ref.plan:
        return Replayed(ref, routing, errors, [], False, given)
    return Replayed(_under(plan, ref), routing, errors, [
        "the numbers are judged under the kernel's own decisions"], False, given)


def _check_shapes(told: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
    for name, value in told.items():
        if value.shape != shape:
            raise ValueError(f"{name} must hold {shape[1]} choices for each of {shape[0]} tokens, "
                             f"got shape {value.shape}")


def _unsaid(ref: Reference, y: np.ndarray | None, tau_T: np.ndarray,
            precision: str) -> Replayed:
    """Return the reference under the choices that explain y, as the kernel did not tell its own."""
    plan, unsure = infer(ref, y, tau_T, precision)
    if plan is ref.plan:
        return Replayed(ref, None, [], [], unsure, None)
    moved = np.flatnonzero((plan.expert != ref.plan.expert).any(axis=1))
    note = (f"legal flip at a near-tie inferred from y: token {', '.join(map(str, moved))}; hand "
            "in expert= to have it judged")
    return Replayed(_under(plan, ref), None, [], [note], unsure, None)


def _under(plan: Plan, ref: Reference) -> Reference:
    """Return the reference that replays a plan."""
    return replace(solve(ref.problem, plan, ref.precision), judged_in=ref.judged_in)


def routing_of(ref: Reference, expert_TK: np.ndarray, tau_T: np.ndarray) -> RoutingReport:
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


def _as_plan(ref: Reference, given: dict[str, Any], config: SwitchConfig) -> Plan:
    p = ref.problem
    return as_plan(given, config, len(ref.scores), num_groups=len(ref.plan.load),
                   padding_T=p.padding_T,
                   training=p.training)


def _order(ref: Reference, expert_TK: np.ndarray, tau_T: np.ndarray) -> np.ndarray:
    """Return the order (T, K) in which to take a token's experts.

    A list of experts may be sorted by anything. What the scores tell apart they put in order;
    near-ties, and what is the reference's own row, stay as they came.
    """
    order_TK = np.broadcast_to(np.arange(expert_TK.shape[1]), expert_TK.shape).copy()
    if not own_choices(ref.problem.config):
        same_T = (np.sort(expert_TK, axis=1) == np.sort(ref.plan.expert, axis=1)).all(axis=1)
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
