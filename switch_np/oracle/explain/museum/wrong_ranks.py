"""Bugs of layers that are cut over ranks: each planted in `parallel.layer` on simulated ranks.

A bug changes the layer's parts, the capacity, or the final gradients.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from switch_np import plans
from switch_np.conventions.arguments import without_capacity
from switch_np.oracle.explain.causes import Evidence, likeliest
from switch_np.oracle.explain.museum.exhibit import in_words
from switch_np.oracle.truth import ranks
from switch_np.oracle.truth.ranks import RankTruth
from switch_np.oracle.truth.solution import Problem
from switch_np.parallel.losses import Mean
from switch_np.parallel.mixture import Mixture, MixtureCache
from switch_np.parallel.route import Route
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import Parts
from switch_np.switch.plan import Plan

Tensors = dict[str, np.ndarray]


class Bug(NamedTuple):
    """What is wrong; how it changes the layer's parts, the problem, and a rank's tensors.

    `seen` says where it was seen, if that is known.
    """

    what: str
    seen: str
    parts: Callable[[Parts, int], Parts] = lambda parts, n: parts
    problem: Callable[[Problem, int], Problem] = lambda problem, n: problem
    tensors: Callable[[RankTruth, int], Tensors] = lambda truth, n: dict(truth.got)


def run(name: str, problem: Problem, plan: Plan | None, n: int) -> tuple[Tensors, ...]:
    """Return what each of n ranks gives with a bug of `BUGS` planted."""
    bug = BUGS[name]
    changed = bug.problem(problem, n)
    found = ranks.of(changed, plan if changed is problem else None, n,
                     lambda parts: bug.parts(parts, n))
    return tuple(bug.tensors(truth, n) for truth in found)


def recognise(evidence: Evidence, rank: int) -> list[str]:
    """Return the bugs that explain every tensor that came from a rank, the likeliest first."""
    truth, n, fits = evidence.truth, len(evidence.ref.ranks), {}
    for name, bug in BUGS.items():
        given = run(name, truth.problem, truth.plan, n)[rank]
        suspects = {key: ranks.whole(key, value, rank, np.asarray(evidence.want[key]), n)
                    for key, value in given.items()}
        fits[in_words(bug.what, bug.seen)] = evidence.total(suspects)
    return likeliest(fits)


def _times(factor: Callable[[int], float], names: tuple[str, ...]) -> Callable[..., Tensors]:
    return lambda truth, n: {key: value * (factor(n) if key in names else 1)
                             for key, value in truth.got.items()}


class _Scaled(NamedTuple):
    """A loss times a factor."""

    part: Any
    factor: float

    def forward(self, *arguments: Any) -> tuple[np.ndarray, Any]:
        loss, cache = self.part.forward(*arguments)
        return loss * self.factor, cache

    def backward(self, d_loss: float, cache: Any) -> np.ndarray:
        gradient: np.ndarray = self.part.backward(d_loss * self.factor, cache)
        return gradient


class _ByRank(Mixture):
    """The mixture whose experts take the rows in the order in which they come."""

    def way(self, plan: Plan) -> Route:
        way = super().way(plan)
        return way._replace(plan=replace(way.plan, token=np.sort(way.plan.token)))


class _Both(MixtureCache):
    """The cache of the rows with a slot, and of those without."""

    rest: MixtureCache


class Padded(Mixture):
    """A correct mixture in which each choice without a slot sends a row of zeros, too.

    From a row of zeros the experts' biases make an output, which no token may get.
    """

    weight = 0.0        # of these rows where they come back

    def forward(self, params: Mapping[str, np.ndarray], x_TD: np.ndarray, gates_TK: np.ndarray,
                plan: Plan, *keep: Any) -> tuple[np.ndarray, MixtureCache]:
        rest = plans.from_choices(plan.expert, SwitchConfig(
            num_experts=plan.load.shape[1], top_k=plan.expert.shape[1],
            capacity_factor=None), kept=~plan.kept)
        y_TD, cache = super().forward(params, x_TD, gates_TK, plan, *keep)
        more_TD, more = super().forward(params, 0 * x_TD, gates_TK * self.weight, rest, *keep)
        both = _Both(*cache)
        both.rest = more
        return y_TD + more_TD, both

    def backward(self, d_y_TD: np.ndarray, both: MixtureCache
                 ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        assert isinstance(both, _Both)
        d_x_TD, d_gates_TK, grads = super().backward(d_y_TD, both)
        _, d_more_TK, more = super().backward(d_y_TD, both.rest)
        return d_x_TD, d_gates_TK + d_more_TK * self.weight, {
            name: grad + more[name] for name, grad in grads.items()}


class _Answered(Padded):
    """The same, but tokens get these outputs."""

    weight = 1.0


def _alike(parts: Parts, n: int) -> Parts:
    def of(mean: Mean) -> Mean:
        return mean._replace(weight=lambda *arguments: 1)

    return parts._replace(balance_loss=of(parts.balance_loss), z_loss=of(parts.z_loss))


def _global_capacity(problem: Problem, n: int) -> Problem:
    config, tokens = problem.config, problem.x[..., 0].size
    capacity = config.expert_capacity(tokens, problem.training)
    if capacity is None or config.capacity is not None:
        return problem
    return problem._replace(config=replace(without_capacity(config), capacity=capacity))


REPLICATED, OWN = ("d_w_router", "d_b_router"), ranks.EXPERTS
UNKNOWN = "no thread known"
BUGS: Mapping[str, Bug] = {
    "router_gradient_not_reduced": Bug(
        "the router's gradient is that of the rank's own tokens: it is not summed over the ranks",
        UNKNOWN, tensors=lambda truth, n: {**truth.got, **{
            key: truth.own[key[2:]] for key in truth.got if key in REPLICATED}}),
    "router_gradient_averaged": Bug(
        "the router's gradient is averaged over the ranks, not summed", UNKNOWN,
        tensors=_times(lambda n: 1 / n, REPLICATED)),
    "router_gradient_reduced_twice": Bug(
        "the router's gradient is summed over the ranks twice", UNKNOWN,
        tensors=_times(lambda n: n, REPLICATED)),
    "expert_gradients_averaged": Bug(
        "the experts' gradients are divided by the number of ranks, though no two ranks share one",
        "megablocks PR#20, the reverse", tensors=_times(lambda n: 1 / n, OWN)),
    "expert_gradients_times_ranks": Bug(
        "the experts' gradients are multiplied by the number of ranks", "DeepSpeed#5618, #6545",
        tensors=_times(lambda n: n, OWN)),
    "balance_loss_times_ranks": Bug(
        "the balance loss is summed over the ranks, not averaged", UNKNOWN,
        lambda parts, n: parts._replace(balance_loss=_Scaled(parts.balance_loss, n))),
    "balance_loss_over_ranks": Bug(
        "the balance loss is divided by the number of ranks once too often", UNKNOWN,
        lambda parts, n: parts._replace(balance_loss=_Scaled(parts.balance_loss, 1 / n))),
    "unequal_ranks_alike": Bug(
        "the losses of ranks with unequal numbers of real tokens are averaged as if equal",
        "Megatron-LM PR#5047, PR#5798", _alike),
    "rows_by_rank": Bug(
        "the experts take the received rows in the order of ranks, not of experts",
        UNKNOWN, lambda parts, n: parts._replace(mixture=_ByRank(*parts.mixture))),
    "padding_rows_answered": Bug(
        "rows of zeros, sent for tokens without a slot, come back with the output of the experts' "
        "biases, not as 0", UNKNOWN,
        lambda parts, n: parts._replace(mixture=_Answered(*parts.mixture))),
    "capacity_of_all_tokens": Bug(
        "the capacity is computed from the tokens of all ranks, not of one", UNKNOWN,
        problem=_global_capacity)}
