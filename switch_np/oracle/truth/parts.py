"""The parts below the experts: a grouped product, dispatch and combine, each judged like a layer.

Rows are sorted by expert, and an expert's by token, as in a stable sort of the flat choices (T · K)
or by `slot` where the plan gives it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np.conventions.arguments import MOST_ROWS
from switch_np.operations import adapters, check, signatures
from switch_np.operations.queues import queue_positions
from switch_np.oracle.truth import asked
from switch_np.oracle.truth.decisions import as_dict, as_plan, by_token
from switch_np.oracle.truth.reference import Reference, solve
from switch_np.oracle.truth.solution import Problem
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


@signatures.checked
def grouped_product(rows: Any, group_sizes: Any, weights: Any, *, d_y: Any = None) -> Reference:
    """Compute each group of rows times its own matrix, and the gradients "rows" and "weights".

    Parameters
    ----------
    rows, group_sizes, weights
        (R, D), (E,) whole numbers that sum to R, and (E, D, F), of any array library and dtype.
    d_y
        (R, F) the gradient arriving at y; None for zeros.

    Examples
    --------
    >>> rows, weights = np.arange(6.0).reshape(3, 2), np.ones((2, 2, 4))
    >>> ref = grouped_product(rows, [1, 2], weights, d_y=np.ones((3, 4)))
    >>> ref.y[:, 0].tolist(), ref.grads["weights"][:, 0, 0].tolist()
    ([1.0, 5.0, 9.0], [0.0, 6.0])
    """
    sizes, (r, d) = adapters.to_numpy(group_sizes, "group_sizes"), _shape("rows", rows, "R", "D")
    if sizes.dtype.kind not in "iu" or sizes.ndim != 1 or (sizes < 0).any() or sizes.sum() != r:
        raise ValueError(f"group_sizes must hold whole numbers (E,) that sum to {r}, the number of "
                         f"rows, got {sizes.tolist()}")
    e, _, f = _shape("weights", weights, len(sizes), d, "F")
    return _solved("product", rows, {"weights": weights}, np.repeat(np.arange(e), sizes), r, e, d_y,
                   f)


@signatures.checked
def dispatch(x: Any, plan: Any, num_experts: int, *, d_y: Any = None) -> Reference:
    """Compute the experts' rows (R, D), as y, from tokens and their choices of experts, and d_x.

    Parameters
    ----------
    x, plan, num_experts
        (T, D) tokens, what `reference` takes for a plan, and E.
    d_y
        (R, D) the gradient arriving at the rows; None for zeros.

    Examples
    --------
    >>> dispatch(np.array([[5.0], [6.0]]), [[1, 0], [0, 1]], num_experts=2).y[:, 0].tolist()
    [5.0, 6.0, 5.0, 6.0]
    """
    t, d = _shape("x", x, "T", "D")
    return _solved("dispatch", x, {}, plan, t, num_experts, d_y, d)


@signatures.checked
def combine(rows: Any, gates: Any, plan: Any, num_experts: int, *, d_y: Any = None) -> Reference:
    """Compute y (T, D), each token's rows weighted by its gates, and the gradients of both.

    Parameters
    ----------
    rows, gates, plan, num_experts
        (R, D) the experts' outputs, (T, K), what `reference` takes for a plan, and E.
    d_y
        (T, D) the gradient arriving at y; None for zeros.

    Examples
    --------
    >>> combine([[8.0], [4.0]], [[0.5], [1.0]], [[1], [0]], num_experts=2).y[:, 0].tolist()
    [2.0, 8.0]
    """
    (t, _), (_, d) = _shape("gates", gates, "T", "K"), _shape("rows", rows, "R", "D")
    return _solved("combine", rows, {"gates": gates}, plan, t, num_experts, d_y, d)


def _shape(name: str, value: Any, *wanted: int | str) -> tuple[int, ...]:
    """Return an array's shape, and refuse one that does not fit the lengths and letters."""
    shape = adapters.shape_of(value, name)
    if len(shape) != len(wanted) or any(
            isinstance(want, int) and n != want for n, want in zip(shape, wanted)):
        raise ValueError(f"{name} must have shape ({', '.join(map(str, wanted))}), got {shape}")
    return shape


def _solved(part: str, x: Any, params: Mapping[str, Any], choices: Any, num_tokens: int,
            num_experts: int, d_y: Any, width: int) -> Reference:
    """Return the reference of a part whose y has this width."""
    check.integer("num_experts", num_experts, 0, MOST_ROWS)
    try:
        plan = _plan(choices, num_tokens, num_experts)
    except (TypeError, ValueError) as error:
        raise type(error)(f"plan must name choices of experts; {error}") from None
    config = SwitchConfig(num_experts=num_experts, top_k=plan.expert.shape[1])
    problem = Problem(np.zeros(0), {}, config, asked.lift("d_y", d_y, (
        num_tokens if part == "combine" else plan.num_rows, width)), alone=part)
    name, count = problem.input_name, num_tokens if part == "dispatch" else plan.num_rows
    lifted = {key: asked.lift(key, value) for key, value in params.items()}
    if "gates" in lifted:
        lifted["gates"] = asked.rows_of_gates(lifted["gates"], plan)
    own = asked.lift(name, x)
    check.floats(name, own, (count, "D"))
    return replace(solve(problem._replace(x=own, params=lifted), plan, adapters.precision_of(
        x, *params.values()) or "float64"), replays=True)


def _plan(choices: Any, num_tokens: int, num_experts: int) -> Plan:
    """Return the plan of these choices, its rows in the order that the module's docstring gives."""
    told = as_dict(choices) | ({"slot": choices.slot} if isinstance(choices, Plan) else {})
    known = {name: by_token(name, value, num_tokens) for name, value in told.items()}
    expert_TK = known["expert"]
    if "slot" not in known:
        kept_TK = known.get("kept", np.ones(expert_TK.shape)).astype(bool)
        known["slot"] = queue_positions(np.where(kept_TK, expert_TK, num_experts), num_experts)[0]
    config = SwitchConfig(num_experts=num_experts, top_k=expert_TK.shape[1], capacity_factor=None)
    return as_plan(known, config, num_tokens)
