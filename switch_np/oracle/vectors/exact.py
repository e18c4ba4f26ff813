"""Problems whose every bit is known: == in any precision and any order of summation.

Small whole numbers in x, d_y and the experts' weights, and a router whose columns are all equal, so
that every probability is 1 / E, a power of two. Each partial sum is then a multiple of one power of
two and at most 256 times it, which fits in eight significant bits: bfloat16 agrees with float64.
Only the z-loss has a logarithm and is left out; decisions are given, since all scores tie.
"""

import math
from typing import Any

import numpy as np

from switch_np import plans, switch_layer
from switch_np.switch.config import SwitchConfig

BITS = 256
FINEST = 2.0 ** -30                    # numbers that are no multiple of it, such as log Z, fail


def problem(top_k: int, capacity: int, seed: int, *, padding: int = 0, unused: int = 0,
            balance: bool = False) -> dict[str, Any]:
    """Return the arguments of `reference`, plan included, for 8 tokens and 4 experts.

    `balance` replaces the output's gradient by the balance loss. A seed whose sums are too long, or
    whose gradients are all zero, is refused.

    >>> asked = problem(top_k=1, capacity=2, seed=0)
    >>> sorted(np.unique(asked["x"]).tolist())
    [-1.0, 0.0, 1.0]
    """
    t, d, f, e = 8, 4, 4, 4
    config = SwitchConfig(num_experts=e, top_k=top_k, capacity=capacity, jitter=0.0)
    rng = np.random.default_rng(seed)

    def sparse(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2, shape) * (rng.random(shape) < 0.7) * 1.0

    asked: dict[str, Any] = {
        "x": sparse(t, d), "config": config, "balance_coef": 0.5 * balance,
        "d_y": sparse(t, d) * (not balance),
        "params": {"w_router": np.repeat(sparse(d, 1), e, axis=1), "w_in": sparse(e, d, f),
                   "w_out": sparse(e, f, d)}}
    if padding:
        asked["padding"] = np.arange(t) >= t - padding
    expert = np.argsort(rng.random((t, e - unused)), axis=1)[:, :top_k]
    plan = plans.from_choices(expert, config, padding=asked.get("padding"))
    if not _short(asked, plan):
        raise ValueError(f"seed must give short sums and no gradient of zeros, got {seed}")
    return asked | {"plan": {"expert": plan.expert, "kept": plan.kept, "slot": plan.slot}}


def _short(asked: dict[str, Any], plan: plans.Plan) -> bool:
    """Whether every sum of a run stays within `BITS` multiples of its unit, whatever its order."""
    kind = watching()
    params = {name: value.view(kind) for name, value in asked["params"].items()}
    _, cache = switch_layer.forward(params, asked["x"].view(kind), asked["config"], plan=plan,
                                    padding=asked.get("padding"))
    d_x, grads = switch_layer.backward(asked["d_y"].view(kind), cache, asked["balance_coef"])
    told = [d_x, *grads.values()] if asked["d_y"].any() else [d_x, grads["w_router"]]
    wanted = asked["balance_coef"] or all(np.any(value) for value in told)
    return bool(kind.most <= BITS and wanted)


def watching() -> Any:
    """Return a class of arrays that records in `most` the largest partial sum, in its units.

    >>> kind = watching()
    >>> _ = np.array([3.0, 0.25]).view(kind) @ np.array([[1.0], [4.0]])
    >>> kind.most
    16.0
    """

    class Watching(np.ndarray):
        """float64 under watch."""

        most = 0.0

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None,
                            **kwargs: Any) -> Any:
            plain = [np.asarray(value).view(np.ndarray) for value in inputs]
            sizes = [np.abs(value) for value in plain]
            result = getattr(ufunc, method)(*plain, **kwargs)
            if ufunc is np.matmul:
                _note(sizes[0] @ sizes[1], _unit(plain[0]) * _unit(plain[1]))
            elif ufunc is np.add and method == "reduce":
                _note(np.add.reduce(sizes[0], **kwargs), _unit(plain[0]))
            elif np.asarray(result).dtype.kind == "f":
                _note(np.abs(result), _unit(np.asarray(result)))
            if out is None:
                return np.asarray(result).view(Watching) if method == "__call__" else result
            out[0][...] = result
            return out[0]

        def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
            if function is not np.einsum:
                return super().__array_function__(function, types, args, kwargs)
            plain = [value.view(np.ndarray) for value in args[1:]]
            _note(np.einsum(args[0], *map(np.abs, plain)), math.prod(map(_unit, plain)))
            return np.einsum(args[0], *plain).view(Watching)

    def _note(total: Any, unit: float) -> None:
        if unit >= FINEST:
            Watching.most = max(Watching.most, float(np.max(total, initial=0.0)) / unit)

    return Watching


def _unit(values: np.ndarray) -> float:
    """Return the largest power of two of which all values are multiples; 1 for zeros."""
    whole = np.abs(values[values != 0]) * 2.0 ** 40
    if not whole.size:
        return 1.0
    if (whole != np.floor(whole)).any() or whole.max() >= 2.0 ** 62:
        return 0.0
    bits = whole.astype(np.int64)
    return float((bits & -bits).min()) * 2.0 ** -40
