"""How far a correct kernel may be off: the rounding noise of every number, worked out, not guessed.

The layer's own code is run again, 12 times, on arrays of a class that puts an error on the result
of each operation, as a kernel of the stated precision would:

    stored value     v (1 + u r),  r from U(-1, 1); below the normal range v + r · smallest / 2
    sum of n terms   plus N(0, 1) · u_accumulate · √(n / 6) · √(Σ terms²)

with replayed decisions. The root mean square of the deviations from the reference is sigma. It
scales with the upstream, as rounding does, and needs no constant from anybody.

Two floors. Twelve samples can miss by luck: no sigma is below 0.3 of the median of its row. And
where all samples and the reference are 0 the mathematics has a zero: sigma is 0, and a kernel must
give exactly 0. A rectifier may fall either way where its input lies within the noise; there the
noise is widened, so that the samples see both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from switch_np.oracle.precision import Precision, named
from switch_np.switch import layer

if TYPE_CHECKING:
    from switch_np.oracle.truth import Reference

SAMPLES = 12
ROW_FLOOR = 0.3
KINK = 8.0                     # within so many standard deviations of 0 a sign may fall either way


class Rounding(NamedTuple):
    """What rounding does to a problem's numbers.

    Attributes
    ----------
    sigma
        Standard deviation per element of y, balance_loss, z_loss, d_x, d_w_router, ...; "scores"
        (T, E) for the routing.
    peak
        The largest magnitude on the way, intermediates included.
    """

    sigma: dict[str, np.ndarray]
    peak: float


def estimate(ref: Reference, precision: str, samples: int = SAMPLES) -> Rounding:
    """Return the rounding noise of a correct kernel on the reference's problem.

    Examples
    --------
    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import truth, problems
    >>> ref = truth.reference(**problems.draw(SwitchConfig(num_experts=2), 8, d_model=4, d_ff=6))
    >>> ratio = estimate(ref, "bfloat16").sigma["y"] / estimate(ref, "float32").sigma["y"]
    >>> bool(np.median(ratio[ref.y != 0]) > 2.0 ** 14)
    True
    """
    wanted = ref.outputs() | {"scores": _finite(ref.scores)}
    squares = {name: np.zeros(np.shape(value)) for name, value in wanted.items()}
    kind = named(precision)
    # Rounding in float64 itself is the reference's too: measure a coarser one, and scale down.
    finer = 2.0 ** -20 if precision == "float64" else 1.0
    if finer < 1:
        kind = kind._replace(store=kind.store / finer, accumulate=kind.accumulate / finer)
    rough = rough_class(kind, np.random.default_rng(0))
    for _ in range(samples):
        for name, value in _run(ref, rough).items():
            squares[name] += (np.asarray(value) - wanted[name]) ** 2
    sigma = {name: np.sqrt(square / samples) * finer for name, square in squares.items()}
    return Rounding({name: _floored(value, wanted[name], kind.smallest)
                     for name, value in sigma.items()}, rough.peak)


def _run(ref: Reference, rough: type[np.ndarray]) -> dict[str, np.ndarray]:
    """Return one sample of all outputs."""
    def enter(array: np.ndarray) -> np.ndarray:
        entered = array.copy().view(rough)
        entered.given = True
        return entered

    p = ref.problem
    out, cache = layer.forward(
        {name: enter(value) for name, value in p.params.items()}, enter(p.x), p.config,
        plan=ref.plan, padding=p.padding, noise=p.noise, training=p.training)
    # An automatic derivative of log_z is exp(logits - log_z): off by as much as log_z is rounded,
    # the same for all of a token's experts.
    log_z_T = cache.z.log_z_T
    off_T = log_z_T * 1 - log_z_T
    cache = cache._replace(z=cache.z._replace(log_z_T=log_z_T * (1 + off_T)))
    # Zeros that add nothing but the rounding of what is stored in d_probs and d_logits.
    d_x, grads = layer.backward(enter(p.d_y), cache, p.balance_coef, p.z_coef,
                                d_probs=enter(np.zeros(out.probs.shape)),
                                d_logits=enter(np.zeros(out.probs.shape)))
    return {"y": out.y, "balance_loss": out.balance_loss, "z_loss": out.z_loss, "d_x": d_x,
            "scores": _scores(out, ref)} | {f"d_{name}": grad for name, grad in grads.items()}


def _scores(out: layer.LayerOutput, ref: Reference) -> np.ndarray:
    """Return the scores of a sample, with what decides besides the router left as it was."""
    given = ref.logits if ref.problem.noise is not None else ref.probs
    moved = out.logits if given is ref.logits else out.probs
    return np.where(np.isfinite(ref.scores), _finite(ref.scores) + np.asarray(moved - given), 0.0)


def _finite(scores_TE: np.ndarray) -> np.ndarray:
    """Return scores with 0 for experts that may not be chosen, whose score is -inf."""
    return np.where(np.isfinite(scores_TE), scores_TE, 0.0)


def _floored(sigma: np.ndarray, value: np.ndarray, smallest: float) -> np.ndarray:
    """Return sigma with its floors, and 0 where both sigma and the value are 0."""
    nothing = (sigma == 0) & (value == 0)
    if sigma.size and sigma.ndim:
        middle = np.count_nonzero(sigma, axis=-1, keepdims=True) // 2
        falling = -np.sort(-sigma, axis=-1)
        sigma = np.maximum(sigma, ROW_FLOOR * np.take_along_axis(falling, middle, axis=-1))
    return np.where(nothing, 0.0, np.maximum(sigma, smallest))


def rough_class(precision: Precision, rng: np.random.Generator) -> type[np.ndarray]:
    """Return a class of arrays whose arithmetic rounds, at random, as that precision does."""

    class Rough(np.ndarray):
        """float64 with errors.

        `given`: an input, exact as it is, and so are its rows. `doubt`: below which magnitude an
        element may as well have the other sign.
        """

        peak = 0.0
        given = False
        doubt: np.ndarray | None = None

        def __array_finalize__(self, source: Any) -> None:
            self.given = getattr(source, "given", False)

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None,
                            **kwargs: Any) -> Any:
            if ufunc in (np.greater, np.less, np.maximum) and method == "__call__":
                for value in inputs:
                    _settle(value)
            plain = [_plain(value) for value in inputs]
            total = _total_squares(ufunc, method, plain, kwargs)
            if out is not None:
                kwargs["out"] = tuple(_plain(value) for value in out)
            result = np.asarray(getattr(ufunc, method)(*plain, **kwargs))
            if result.dtype.kind != "f":
                return result
            if ufunc not in EXACT and not any(value.dtype == bool for value in plain):
                result[...] = _rounded(result, total)
            result = out[0] if out is not None else _computed(result)
            if not isinstance(result, Rough):
                return result
            if ufunc is np.matmul:
                inherited = not all(getattr(value, "given", False) for value in inputs)
                result.doubt = KINK * (_spread(*total)
                                       + inherited * precision.store * np.sqrt(total[1]))
            elif ufunc is np.add:
                result.doubt = getattr(inputs[0], "doubt", None)
            return result

        def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
            if function is not np.einsum:
                result = super().__array_function__(function, types, args, kwargs)
                # np.where makes plain arrays.
                return _computed(result) if _plain_floats(result) else result
            plain = [_plain(value) for value in args[1:]]
            result = np.einsum(args[0], *plain)
            squares = np.einsum(args[0], *(value ** 2 for value in plain))
            terms = max(value.size for value in plain) / max(result.size, 1)
            return _computed(_rounded(result, (terms, squares)))

    def _computed(array: np.ndarray) -> np.ndarray:
        array = array.view(Rough)
        array.given = False
        return array

    def _spread(terms: float, squares: np.ndarray) -> np.ndarray:
        """Return the standard deviation of a sum's error."""
        return precision.accumulate * np.sqrt(terms / 6 * squares)

    def _rounded(value: np.ndarray, total: tuple[float, np.ndarray] | None) -> np.ndarray:
        """Return what would be stored for a value that came out of a sum, or of none."""
        if value.ndim:                                    # a lone sum lives in an accumulator
            Rough.peak = max(Rough.peak, float(np.abs(value).max(initial=0.0)))
        error = rng.uniform(-1, 1, value.shape) * np.maximum(
            precision.store * np.abs(value), precision.smallest / 2)
        if total is not None:
            error += rng.standard_normal(value.shape) * _spread(*total)
        return np.where(value == 0, 0.0, value + error)

    def _settle(value: Any) -> None:
        """Move, in place, what is about to be compared and lies within its doubt."""
        if getattr(value, "doubt", None) is not None:
            plain = _plain(value)
            plain += np.where(np.abs(plain) < value.doubt,
                              value.doubt * rng.standard_normal(plain.shape), 0.0)

    return Rough


EXACT = (np.maximum, np.minimum, np.negative, np.absolute, np.sign)


def _total_squares(ufunc: Any, method: str, plain: list[np.ndarray],
                   kwargs: dict[str, Any]) -> tuple[float, np.ndarray] | None:
    """Return how many terms an operation adds up, and the sum of their squares; None for none."""
    if ufunc is np.matmul:
        return plain[0].shape[-1], plain[0] ** 2 @ plain[1] ** 2
    if ufunc is np.add and method == "reduce":
        squares = np.add.reduce(plain[0] ** 2, **kwargs)
        return plain[0].size / max(squares.size, 1), squares
    return None


def _plain_floats(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype.kind == "f"


def _plain(value: Any) -> np.ndarray:
    return value.view(np.ndarray) if isinstance(value, np.ndarray) else np.asarray(value)
