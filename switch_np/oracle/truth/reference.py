"""The truth about a layer: outputs, losses and every gradient, in float64, part by part.

Forward and backward are the layer's own (`switch_np.switch_layer`); the backward is run once for
each part of the objective, and the gradients are taken apart into their additive terms:

    d_w_router = gate + balance + z              d_x = experts + gate + balance + z

`gate` is what the output's gradient sends through the gates, `experts` what it sends through the
feed-forward networks, `balance` and `z` come from the losses, coefficients included. In the
backward d_x meets the router only as d_logits W_rᵀ, so the same backward with W_r = 0 there leaves
d_x's `experts` alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from switch_np.conventions import arguments, choose, serve
from switch_np.conventions.margins import Margins, contested, margins
from switch_np.conventions.noise import Noise, decided
from switch_np.operations import adapters, signatures
from switch_np.oracle import truth
from switch_np.oracle.truth import asked, caches, rounding
from switch_np.oracle.truth.decisions import as_plan
from switch_np.oracle.truth.rounding import Rounding
from switch_np.oracle.truth.solution import Problem, Solution, frozen, outputs
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import LayerOutput
from switch_np.switch.plan import Plan

SEEDS = ("output", "balance", "z")


@dataclass(frozen=True, eq=False, repr=False)
class Reference(Solution):
    """A problem's `Solution`, read-only, and how far a correct kernel may be from it."""

    _noise: dict[str, Rounding] = field(default_factory=dict)
    bias_precision: str | None = None                # in which the selection bias was given
    replays: bool = False                            # whether a plan was given
    judged_in: Mapping[str, str] = field(default_factory=dict)    # precisions of single outputs
    ranks: tuple[Any, ...] = ()                      # a RankTruth each, where `ranks` was given

    def rounding(self, precision: str) -> Rounding:
        """Return what a correct kernel's rounding does to each number; worked out once."""
        if precision not in self._noise:
            self._noise[precision] = frozen(rounding.estimate(self, precision, rounding.SAMPLES))
        return self._noise[precision]

    def sigma(self, precision: str) -> Mapping[str, np.ndarray]:
        """Return the standard deviation of a correct kernel's error, element by element.

        The keys are those of `outputs()`; 0 stands where the number must be exactly 0. What
        `judged_in` names has a precision of its own.
        """
        return MappingProxyType({**self.rounding(precision).sigma} | {
            name: self.rounding(own).sigma[name] for name, own in self.judged_in.items()})

    def __repr__(self) -> str:
        (t, k), part = self.plan.expert.shape, self.problem.alone
        alone = "" if part is None else f"{part} alone, "
        return (f"<Reference: {alone}{t} {'rows' if part == 'product' else 'tokens'}, "
                f"{self.plan.load.shape[1]} experts, top {k}, "
                f"{self.plan.dropped_fraction:.0%} dropped>")


@signatures.checked
def reference(x: Any, params: Mapping[str, Any], config: SwitchConfig | str, *, d_y: Any = None,
              balance_coef: float = 0.0, z_coef: float = 0.0, plan: Any = None, padding: Any = None,
              noise: Noise | None = None, training: bool = False, gates: Any = None,
              ranks: int | None = None) -> Reference:
    """Compute a layer's outputs, losses and gradients in float64.

    Parameters
    ----------
    x
        (T, D) or (B, S, D), of any array library and dtype, like every array here: the numbers are
        lifted to float64 unchanged, so pass exactly what the kernel under test gets.
    params
        `w_router` (D, E), `w_in` (E, D, F), `w_out` (E, F, D) and what else the config asks for.
    config
        What is computed: a `SwitchConfig`, or the name of a preset.
    d_y
        The gradient arriving at y, shaped like it; None for zeros. Let it be random: a constant
        one cannot tell a permuted batch from a right one.
    balance_coef, z_coef
        The coefficients of the two losses in the objective.
    plan
        Decisions to replay: a `Plan`, or another library's as `as_plan` takes them.
    padding, noise, training
        As `switch_layer.forward` takes them; noise in training must be given, as a
        `switch_np.Noise`, such as Noise(jitter=...) with the factors (T, D) of the router's input.
    gates
        (T, K) the weights of the experts in `plan`, in place of a router: `params` holds the
        experts' alone, `grads` the gates', and there are no losses. Only these parts of the config
        count: the experts, where gates are applied, and what a dropped token gets.
    ranks
        Cut the layer over this many ranks, each with its own experts and its own tokens, which form
        a group: `ref.ranks` holds a `RankTruth` each, what it sends, gets, computes and returns.

    Raises
    ------
    MemoryError
        Where the arrays in float64 would not fit into memory; before any is allocated.

    Examples
    --------
    >>> from switch_np.oracle import draw
    >>> asked = draw(SwitchConfig(num_experts=4), num_tokens=12, d_model=8, d_ff=16)
    >>> ref = reference(**asked)
    >>> ref.y.shape, sorted(ref.terms["w_router"])
    ((12, 8), ['balance', 'gate', 'z'])
    >>> bool(np.allclose(sum(ref.terms["x"].values()), ref.grads["x"]))
    True
    >>> del asked["params"]["w_router"], asked["balance_coef"], asked["z_coef"]
    >>> alone = reference(**asked, gates=ref.gates, plan=ref.plan)
    >>> bool((alone.y == ref.y).all()), sorted(alone.grads)
    (True, ['gates', 'w_in', 'w_out', 'x'])
    """
    shapes = {name: adapters.shape_of(value, f"params[{name!r}]")
              for name, value in params.items()}
    config = asked.config_of(config, shapes, gates, plan, balance_coef, z_coef)
    if not adapters.shape_of(x, "x"):
        raise ValueError("x must have shape (T, D) or (B, S, D), got ()")
    asked.check_memory(adapters.shape_of(x, "x"), list(shapes.values()), config.num_choices)
    cut: SwitchConfig = config if ranks is None else truth.ranks.config_over(
        ranks, config, adapters.shape_of(x, "x"), gates)
    config = replace(cut, layout="packed")                # empty buffer rows would add nothing
    given = {**params} if gates is None else {**params, "gates": gates}
    precision = adapters.precision_of(x, *given.values()) or "float64"
    x = asked.lift("x", x)
    d_y = asked.lift("d_y", d_y, x.shape)
    lifted = {name: asked.lift(f"params[{name!r}]" if name in params else name, value)
              for name, value in given.items()}
    padding = None if padding is None else adapters.to_numpy(padding, "padding")
    problem = Problem(x, lifted, config, d_y, balance_coef, z_coef, padding,
                      asked.lift_noise(noise), training, None if gates is None else "experts")
    needed = config if plan is None else decided(config, Noise())
    if training and needed.noisy and noise is None:
        raise ValueError("noise must be given when training=True and the config has noise, "
                         "since the reference draws none, got None")
    if plan is not None:
        plan = as_plan(plan, config, x[..., 0].size,
                       num_groups=arguments.num_groups(config, x.shape),
                       padding_T=problem.padding_T, training=training)
    if gates is not None:
        lifted["gates"] = asked.rows_of_gates(lifted["gates"], plan)
    bias = params.get("select_bias")
    found = solve(problem, plan, precision)
    return replace(found, replays=plan is not None,
                   bias_precision=None if bias is None else adapters.precision_of(bias),
                   ranks=() if ranks is None else truth.ranks.of(problem, found.plan, ranks))


def solve(problem: Problem, plan: Plan | None, precision: str) -> Reference:
    """Return the reference of a problem whose arrays are lifted already."""
    p = problem
    if plan is not None:
        plan = with_plain_counts(p, plan)
    out, cache = p.forward(plan)
    nothing = np.zeros(p.d_y.shape)
    seeds = {seed: p.backward(p.d_y if seed == "output" else nothing, cache, seed == "balance",
                              seed == "z") for seed in SEEDS[:1 if p.alone else None]}
    terms = {name: {"gate" if name in caches.ROUTER else "experts": grad}
             for name, grad in seeds["output"].items()}
    losses = [None if p.alone else float(loss) for loss in (out.balance_loss, out.z_loss)]
    objective = float((out.y * p.d_y).sum())
    if not p.alone:
        d_x_experts = p.backward(p.d_y, caches.without_router(cache))["x"]
        terms["x"] = {"experts": d_x_experts, "gate": seeds["output"]["x"] - d_x_experts}
        for name in terms.keys() & {"x", *caches.ROUTER}:
            terms[name] |= {"balance": seeds["balance"][name] * float(p.balance_coef),
                            "z": seeds["z"][name] * float(p.z_coef)}
        objective += float(p.balance_coef * out.balance_loss + p.z_coef * out.z_loss)
    return Reference(*map(frozen, (
        out.y, *losses, objective, {name: sum(parts.values()) for name, parts in terms.items()},
        seeds, terms, out.plan, *_firmness(p, out), caches.intermediates(cache), problem,
        precision)))


def _firmness(p: Problem, out: LayerOutput
              ) -> tuple[Margins, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the decisions' margins, probabilities, logits, gates, and scores (T, E) that chose.

    Given choices have infinite margins.
    """
    if p.alone:
        endless_T = np.full(len(out.plan.expert), np.inf)
        firm = Margins(endless_T, contested(out.plan), endless_T)
        return firm, out.probs, out.logits, out.gates, out.probs
    noise, bias_E = p.noise or Noise(), p.params.get("select_bias")
    chosen_by = decided(p.config, noise)
    scores_TE = choose.ranked(out.probs, out.logits, chosen_by.conventions, noise, bias_E)
    firm = margins(out.probs, out.plan, chosen_by, logits_TE=out.logits, padding_T=p.padding_T,
                   bias_E=bias_E, noise=noise, training=p.training)
    firm.choice[~p.served_T] = np.inf
    return firm, out.probs, out.logits, out.gates, scores_TE


def with_plain_counts(problem: Problem, plan: Plan) -> Plan:
    """Return a replayed plan with the best scores counted, if the balance loss counts those."""
    p = problem
    if not p.config.counts_scores:
        return plan
    return serve.recount(plan, p.forward(plan)[0].probs, p.padding_T, p.config, p.training)


def planned(problem: Problem, plan: Plan, kept_TK: np.ndarray | None = None) -> Plan:
    """Return the problem's plan with another plan's experts, and its kept choices if given."""
    p, these, config = problem, {"expert": plan.expert}, problem.config
    if kept_TK is not None:
        these["kept"] = kept_TK
        config = replace(config, capacity=max(int(kept_TK.sum()), 1))
    return with_plain_counts(p, as_plan(
        these, config, len(plan.expert), num_groups=len(plan.load), padding_T=p.padding_T,
        training=p.training))


def outputs_of(problem: Problem, plan: Plan | None) -> tuple[Plan, dict[str, np.ndarray]]:
    """Return a problem's plan, and its numbers as `Solution.outputs` names them."""
    out, cache = problem.forward(plan)
    grads = problem.backward(problem.d_y, cache, problem.balance_coef, problem.z_coef)
    return out.plan, outputs(out, grads)
