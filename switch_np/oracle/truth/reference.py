"""The truth about a layer: outputs, losses and every gradient, in float64, part by part.

Forward and backward are the layer's own (`switch_np.switch_layer`); the backward is run once for
each part of the objective, and the gradients are taken apart into their additive terms:

    d_w_router = gate + balance + z              d_x = experts + gate + balance + z

`gate` is what the output's gradient sends through the gates, `experts` what it sends through the
feed-forward networks, `balance` and `z` come from the losses, coefficients included. In the
backward d_x meets the router only as d_logits W_rᵀ, so the same backward with W_r = 0 there leaves
d_x's `experts` alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from switch_np import switch_layer
from switch_np.conventions import arguments, choose, serve
from switch_np.conventions.margins import margins
from switch_np.conventions.noise import Noise, decided
from switch_np.conventions.presets import presets
from switch_np.operations import adapters, check, environment, signatures
from switch_np.operations.queues import largest
from switch_np.oracle import truth
from switch_np.oracle.truth import caches, rounding
from switch_np.oracle.truth.decisions import as_plan
from switch_np.oracle.truth.rounding import Rounding
from switch_np.oracle.truth.solution import Problem, Solution, frozen, outputs
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

SEEDS = ("output", "balance", "z")


@dataclass(frozen=True, eq=False, repr=False)
class Reference(Solution):
    """A problem's `Solution`, all read-only, and how far a correct kernel may be off it."""

    _noise: dict[str, Rounding] = field(default_factory=dict)
    bias_precision: str | None = None                # in which the selection bias was handed in
    replays: bool = False                            # whether a plan was handed in
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
        t, k = self.plan.expert.shape
        return (f"<Reference: {t} tokens, {self.plan.load.shape[1]} experts, top {k}, "
                f"{self.plan.dropped_fraction:.0%} dropped>")


@signatures.checked
def reference(x: Any, params: Mapping[str, Any], config: SwitchConfig | str, *, d_y: Any = None,
              balance_coef: float = 0.0, z_coef: float = 0.0, plan: Any = None, padding: Any = None,
              noise: Noise | None = None, training: bool = False,
              ranks: int | None = None) -> Reference:
    """Compute a layer's outputs, losses and gradients in float64.

    Parameters
    ----------
    x
        (T, D) or (B, S, D), of any array library and dtype, like every array here: the numbers are
        lifted to float64 as they are, so hand in what the kernel under test gets, rounded alike.
    params
        `w_router` (D, E), `w_in` (E, D, F), `w_out` (E, F, D) and what else the config asks for.
    config
        What is computed: a `SwitchConfig`, or the name of a preset.
    d_y
        The gradient arriving at y, shaped like it; None for zeros. Let it be random: a constant
        one cannot tell a permuted batch from a right one.
    balance_coef, z_coef
        The factors of the two losses in the objective.
    plan
        Decisions to replay: a `Plan`, or another library's as `as_plan` takes them.
    padding, noise, training
        As `switch_layer.forward` takes them; noise in training must be handed in, as a
        `switch_np.Noise`, such as Noise(jitter=...) with the factors (T, D) of the router's input.

    ranks
        Cut the layer over so many ranks, each with its tokens, a group of their own, and its
        experts: `ref.ranks` is what each sends, gets, computes and returns, a `RankTruth`.

    Raises
    ------
    MemoryError
        Where the arrays in float64 would not fit into memory; before any is allocated.

    Examples
    --------
    >>> from switch_np.oracle import draw
    >>> ref = reference(**draw(SwitchConfig(num_experts=4), num_tokens=12, d_model=8, d_ff=16))
    >>> ref.y.shape, sorted(ref.terms["w_router"])
    ((12, 8), ['balance', 'gate', 'z'])
    >>> bool(np.allclose(sum(ref.terms["x"].values()), ref.grads["x"]))
    True
    """
    if "w_router" not in params:
        raise ValueError(f"params must hold w_router, got {sorted(params)}")
    check.number("balance_coef", balance_coef)
    check.number("z_coef", z_coef)
    shapes = {name: adapters.shape_of(value, f"params[{name!r}]")
              for name, value in params.items()}
    if isinstance(config, str):
        check.choice("config", config, list(presets()))
        config = SwitchConfig.like(config, num_experts=shapes["w_router"][-1])
    if not adapters.shape_of(x, "x"):
        raise ValueError("x must have shape (T, D) or (B, S, D), got ()")
    _check_memory(adapters.shape_of(x, "x"), list(shapes.values()), config.num_choices)
    if ranks is not None:
        over_ranks: SwitchConfig = truth.ranks.config_over(ranks, config, adapters.shape_of(x, "x"))
        config = over_ranks
    config = replace(config, layout="packed")             # empty buffer rows would add nothing
    precision = adapters.precision_of(x, *params.values()) or "float64"
    x = adapters.lift(x, "x")
    d_y = np.zeros(x.shape) if d_y is None else adapters.lift(d_y, "d_y")
    lifted = {name: adapters.lift(value, f"params[{name!r}]") for name, value in params.items()}
    arrays = {"x": x, "d_y": d_y} | {f"params[{name!r}]": lifted[name] for name in lifted}
    for name, value in arrays.items():
        check.floats(name, value, value.shape, finite=True)
    padding = None if padding is None else adapters.to_numpy(padding, "padding")
    problem = Problem(x, lifted, config, d_y, balance_coef, z_coef, padding, _lifted(noise),
                      training)
    needed = config if plan is None else decided(config, Noise())
    if training and needed.noisy and noise is None:
        raise ValueError("noise must be handed in when training=True and the config has noise, "
                         "since the reference draws none, got None")
    if plan is not None:
        plan = as_plan(plan, config, x[..., 0].size,
                       num_groups=arguments.num_groups(config, x.shape),
                       padding_T=problem.padding_T, training=training)
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
    nothing, seeds = np.zeros(p.x.shape), {}
    for seed in SEEDS:
        d_x, grads = switch_layer.backward(p.d_y if seed == "output" else nothing, cache,
                                           float(seed == "balance"), float(seed == "z"))
        seeds[seed] = {"x": d_x, **grads}
    terms = {name: {"gate" if name in caches.ROUTER else "experts": grad}
             for name, grad in seeds["output"].items()}
    d_x_experts, _ = switch_layer.backward(p.d_y, caches.without_router(cache))
    terms["x"] = {"experts": d_x_experts, "gate": seeds["output"]["x"] - d_x_experts}
    for name in terms.keys() & {"x", *caches.ROUTER}:
        terms[name] |= {"balance": seeds["balance"][name] * float(p.balance_coef),
                        "z": seeds["z"][name] * float(p.z_coef)}
    noise, bias_E = p.noise or Noise(), p.params.get("select_bias")
    chosen_by = decided(p.config, noise)
    scores_TE = choose.ranked(out.probs, out.logits, chosen_by.conventions, noise, bias_E)
    firm = margins(out.probs, out.plan, chosen_by, logits_TE=out.logits, padding_T=p.padding_T,
                   bias_E=bias_E, noise=noise, training=p.training)
    firm.choice[~p.served_T] = np.inf
    return Reference(*map(frozen, (
        out.y, float(out.balance_loss), float(out.z_loss), float(
            (out.y * p.d_y).sum() + p.balance_coef * out.balance_loss + p.z_coef * out.z_loss),
        {name: sum(parts.values()) for name, parts in terms.items()}, seeds, terms, out.plan,
        firm, out.probs, out.logits, out.gates, scores_TE, caches.intermediates(cache), problem,
        precision)))


def with_plain_counts(problem: Problem, plan: Plan) -> Plan:
    """Return a replayed plan with the best scores counted, where the balance loss counts these."""
    p, conventions = problem, problem.config.conventions
    if conventions.balance_counts != "plain_over_k":
        return plan
    best_TK = largest(p.forward(plan)[0].probs, plan.expert.shape[1])
    count_GE, tokens_G = serve.balance_counts(plan.expert, plan.kept, best_TK, plan.group,
                                              plan.load.shape, p.padding_T, conventions, p.training)
    return replace(plan, balance_count=count_GE, balance_tokens=tokens_G)


def planned(problem: Problem, plan: Plan, kept_TK: np.ndarray | None = None) -> Plan:
    """Return the problem's plan for the experts of another, and for who is kept if given."""
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
    d_x, grads = switch_layer.backward(problem.d_y, cache, float(problem.balance_coef),
                                       float(problem.z_coef))
    return out.plan, outputs(out, {"x": d_x, **grads})


def _check_memory(x_shape: tuple[int, ...], shapes: list[tuple[int, ...]], top_k: int) -> None:
    """Refuse sizes whose reference would not fit into the memory that is free."""
    weights = sum(map(math.prod, shapes))
    width = sum(n for shape in shapes for n in shape[-2:])
    needed = 8 * (8 * weights + math.prod(x_shape[:-1]) * (12 * x_shape[-1] + 4 * top_k * width))
    environment.check_memory(f"x of shape {x_shape} with {weights:,} weights in float64", needed)


def _lifted(noise: Noise | None) -> Noise | None:
    """Return noise of any array library with its bools as they are and the rest in float64."""
    if noise is None:
        return None
    arrays = {name: adapters.to_numpy(part, f"noise.{name}")
              for name, part in noise._asdict().items() if part is not None}
    return Noise(**{name: array if array.dtype == bool else adapters.lift(array)
                    for name, array in arrays.items()})
