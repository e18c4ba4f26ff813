"""The truth of each rank of a layer that is cut over ranks: what it sends, gets, computes, returns.

The layer is `parallel.layer` on simulated ranks, in float64: experts and tokens shared out, a group
of tokens per rank. Put together, its numbers are those of one process.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from switch_np import plans, switch_layer
from switch_np.conventions.noise import Noise
from switch_np.operations import check
from switch_np.oracle.truth import caches
from switch_np.oracle.truth.solution import Problem, frozen, outputs
from switch_np.parallel import all_to_all, layer, shards, simulated
from switch_np.parallel.communicator import Communicator
from switch_np.parallel.mesh import Mesh, lay_out
from switch_np.switch import combine, dispatch, experts
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import Parts
from switch_np.switch.plan import Plan

TOKENS = ("y", "d_x")                                     # what ranks have parts of
EXPERTS = ("d_w_in", "d_w_out", "d_w_gate", "d_b_in", "d_b_gate", "d_b_out")


class RankTruth(NamedTuple):
    """One rank's numbers, of its T/n tokens and E/n experts.

    Attributes
    ----------
    send_counts, receive_counts
        (E,) rows for each expert, its own included; (n, E/n) rows from each rank for each of its
        experts.
    send, receive
        (R, D) the rows that it sends, by expert, hence by rank, then by group and slot; (Q, D)
        those that it gets, by rank, then by expert.
    order
        (Q,) which row received is which in the order of its experts, where it is by expert, rank,
        group and slot.
    outputs, returned
        (Q, D) what its experts give, in the order of `receive`, in which they go back; (R, D) what
        comes back to it, in the order of `send`, not yet weighted.
    d_returned, d_outputs
        The gradients of these two, which the all-to-all of the backward sends and delivers.
    d_receive, d_send
        (Q, D) and (R, D), which it returns and gets.
    own, got
        Its gradients before they are summed over ranks; all its numbers, named as in
        `Solution.outputs`: the gradients of replicated parameters are sums.
    """

    send_counts: np.ndarray
    receive_counts: np.ndarray
    send: np.ndarray
    receive: np.ndarray
    order: np.ndarray
    outputs: np.ndarray
    returned: np.ndarray
    d_returned: np.ndarray
    d_outputs: np.ndarray
    d_receive: np.ndarray
    d_send: np.ndarray
    own: Mapping[str, np.ndarray]
    got: Mapping[str, np.ndarray]


def config_over(n: int, config: SwitchConfig, shape: tuple[int, ...],
                gates: object = None) -> SwitchConfig:
    """Return the config of a layer over n ranks, a group of tokens each; refuse what can't be cut.

    >>> config_over(2, SwitchConfig(num_experts=4), shape=(7, 16))
    Traceback (most recent call last):
    ValueError: ranks must divide the number of tokens, 7, got 2
    """
    check.integer("ranks", n, 1)
    if gates is not None:
        raise ValueError(f"ranks must be None with gates=, which a rank's router makes, got {n}")
    if (tokens := math.prod(shape[:-1])) % n:
        raise ValueError(f"ranks must divide the number of tokens, {tokens}, got {n}")
    if config.groups == "rows":
        raise ValueError(f"groups must be a number, or 'all' for one per rank, with ranks={n}, got "
                         "'rows'")
    ranks = Communicator(size=n)
    Mesh(ranks, ranks, Communicator(), ranks, "rank").check(config)
    return replace(config, groups=n) if config.groups == "all" else config


def of(problem: Problem, plan: Plan | None, n: int,
       change: Callable[[Parts], Parts] = lambda parts: parts) -> tuple[RankTruth, ...]:
    """Return the truth of each of n ranks, under a plan of all tokens if there is one.

    `change` replaces parts of the layer, to plant a bug.
    """
    p = problem
    wide = p._replace(x=p.x.reshape(-1, p.x.shape[-1]), d_y=p.d_y.reshape(-1, p.x.shape[-1]),
                      padding=p.padding_T, noise=p.noise or Noise())
    return tuple(simulated.run(n, lambda world: _work(world, wide, plan, n, change)))


def _work(world: Communicator, p: Problem, plan: Plan | None, n: int,
          change: Callable[[Parts], Parts]) -> RankTruth:
    mesh = lay_out(world, n)
    x_TD, d_y_TD, padding_T, noise = shards.parts((p.x, p.d_y, p.padding, p.noise), mesh.data)
    if plan is not None:
        plan = _part(plan, p, mesh.data, padding_T)
    out, cache = layer.forward(shards.cut(p.params, mesh), x_TD, p.config, mesh, plan=plan,
                               padding=padding_T, noise=noise, training=p.training, change=change)
    d_x, own = switch_layer.backward(d_y_TD, cache, float(p.balance_coef), float(p.z_coef))
    way, combined, computed = caches.over_ranks(cache)

    def sent(rows: np.ndarray) -> np.ndarray:
        return all_to_all.forward(rows, way.to, way.come, world)

    counts_E, rows_RD = np.diff(out.plan.start), dispatch.forward(x_TD, out.plan)
    share = [len(counts_E) // n] * n
    d_out_RD, _ = combine.backward(d_y_TD, combined)
    d_mine, _ = experts.backward(dispatch.forward(sent(d_out_RD), way.plan), computed)
    d_rows_QD = dispatch.backward(d_mine, way.plan)
    found: RankTruth = frozen(RankTruth(
        counts_E, all_to_all.forward(counts_E, share, share, world).reshape(n, -1), rows_RD,
        sent(rows_RD), way.plan.token, sent(combined.out_RD), combined.out_RD, d_out_RD,
        sent(d_out_RD), d_rows_QD, all_to_all.backward(d_rows_QD, way.to, way.come, world), own,
        outputs(out, {"x": d_x, **shards.reduce(own, mesh)})))
    return found


def _part(plan: Plan, p: Problem, comm: Communicator, padding_T: np.ndarray | None) -> Plan:
    """Return a rank's part of the plan of all tokens, whatever the capacity."""
    groups = len(plan.load) // comm.size
    expert, slot, kept = (shards.part(each, comm) for each in (plan.expert, plan.slot, plan.kept))
    config = replace(p.config, groups=groups, capacity=max(int(slot.max(initial=0)) + 1, 1))
    return plans.from_choices(expert, config, kept=kept, slot=slot, num_groups=groups,
                              padding=padding_T, training=p.training)


def whole(name: str, part: np.ndarray, rank: int, want: np.ndarray, n: int) -> np.ndarray:
    """Return an array of all ranks, `want` but for one rank's part; ValueError if it does not fit.

    >>> whole("d_w_in", np.ones((1, 1)), 1, np.zeros((3, 1)), 3)[:, 0].tolist()
    [0.0, 1.0, 0.0]
    """
    if name not in TOKENS + EXPERTS:
        return part
    rows = want.reshape(-1, want.shape[-1]) if name in TOKENS else want
    own = len(rows) // n
    if part.size != own * rows[0].size:
        raise ValueError(f"{name} must hold the {own} {'tokens' if name in TOKENS else 'experts'} "
                         f"of rank {rank}, in all {own * rows[0].size} numbers, got shape "
                         f"{part.shape}")
    rows = rows.copy()
    rows[rank * own:(rank + 1) * own] = part.reshape(own, *rows.shape[1:])
    return rows.reshape(want.shape)


def own_part(name: str, value: np.ndarray, rank: int, n: int) -> np.ndarray:
    """Return a rank's part of an array of all ranks."""
    if name not in TOKENS + EXPERTS:
        return value
    rows = value.reshape(-1, value.shape[-1]) if name in TOKENS else value
    return shards.part(rows, Communicator(rank, n))
