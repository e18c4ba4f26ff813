"""Arrays whose arithmetic rounds at random, as a kernel of some precision does.

Each operation adds an error to its result:

    stored value     v (1 + u r),  r from U(-1, 1); below the normal range v + r · smallest / 2
    sum of n terms   plus N(0, 1) · u_accumulate · √(n / 6) · √(Σ terms²)

The partial sums of a large sum grow with it, which adds ⅔ sum² to Σ terms². That matters only for a
grouped product alone, where nothing else rounds (`drift`).

Where its input lies within the noise, a rectifier or a limit may fall either way; the noise is
widened there, so that samples see both sides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from switch_np.operations.roundoff import Precision

KINK = 8.0              # within so many standard deviations a comparison may fall either way
EXACT = (np.maximum, np.minimum, np.negative, np.absolute, np.sign)
COMPARING = (np.greater, np.less, np.maximum)
KEEPING = (np.add, np.multiply, np.maximum, np.absolute)      # results inherit the inputs' doubt


class Rough(np.ndarray):
    """float64 with errors; `rough_class` makes the class of one precision.

    `given`: an input, which is exact, as are its rows. `doubt`: an element this close to a number
    may as well lie on its other side. `peak`, of the class: the largest magnitude so far; `drift`:
    see above.
    """

    precision: Precision
    rng: np.random.Generator
    peak: float = 0.0
    drift: bool = False
    given: bool = False
    doubt: np.ndarray | None = None
    moved: np.ndarray | float = 0.0            # by roundings of stored values, at most
    settled: bool = False                      # whether it has been compared before

    def __array_finalize__(self, source: Any) -> None:
        self.given = getattr(source, "given", False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None,
                        **kwargs: Any) -> Any:
        if ufunc in COMPARING and method == "__call__":
            for value, other in (inputs, inputs[::-1]):
                if isinstance(value, Rough):
                    value._settle(_plain(other))
        plain = [_plain(value) for value in inputs]
        total = _total_squares(ufunc, method, plain, kwargs)
        if out is not None:
            kwargs["out"] = tuple(_plain(value) for value in out)
        result = np.asarray(getattr(ufunc, method)(*plain, **kwargs))
        if result.dtype.kind != "f":
            return result
        spread: np.ndarray | None = None
        if total is not None:
            squares = total[1] + 2 / 3 * result ** 2 if self.drift else total[1]
            spread = self._spread(total[0], squares)
        if ufunc not in EXACT and not any(value.dtype.kind == "b" for value in plain):
            result[...] = self._rounded(result, spread)
        result = out[0] if out is not None else result.view(type(self))
        if not isinstance(result, Rough):
            return result
        if ufunc is np.matmul and spread is not None:
            inherited = not all(getattr(value, "given", False) for value in inputs)
            result.doubt = KINK * (spread + inherited * self.precision.store * np.sqrt(squares))
            result.moved = self.precision.store * np.abs(_plain(result))
        elif ufunc in KEEPING:
            doubt = getattr(inputs[0], "doubt", None)
            if doubt is not None and method == "__call__":
                by: np.ndarray | float = 1.0
                if ufunc in (np.multiply, np.maximum):
                    by = np.abs(plain[1]) if ufunc is np.multiply else plain[0] > plain[1]
                doubt = doubt * by
                result.moved = inputs[0].moved * by + self.precision.store * np.abs(_plain(result))
            result.doubt, result.settled = doubt, ufunc is np.maximum
        return result

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is not np.einsum:
            result = super().__array_function__(function, types, args, kwargs)
            plain_floats = type(result) is np.ndarray and result.dtype.kind == "f"
            return result.view(type(self)) if plain_floats else result    # np.where makes these
        plain = [_plain(value) for value in args[1:]]
        result = np.einsum(args[0], *plain)
        squares = np.einsum(args[0], *(value ** 2 for value in plain))
        terms = max(value.size for value in plain) / max(result.size, 1)
        return self._rounded(result, self._spread(terms, squares)).view(type(self))

    def _settle(self, other: np.ndarray) -> None:
        """Move, in place and only once, elements about to be compared that lie within their doubt.

        A limit other than 0 is itself rounded, often to the very number it is compared with. Within
        what rounding may have moved both, either side is as likely: spread them about the limit.
        """
        if self.doubt is not None:
            plain = _plain(self)
            moved = self.precision.store * np.abs(other) + (other != 0) * self.moved
            doubt = self.doubt + 2 * moved
            near = np.abs(plain - other) < doubt
            if near.any() or not self.settled:
                middle = np.where(other == 0, plain, other)
                spread = middle + doubt * self.rng.standard_normal(plain.shape)
                plain[...] = np.where(near, spread, plain)
                self.doubt, self.settled = np.where(near, 0.0, self.doubt), True

    @classmethod
    def _spread(cls, terms: float, squares: np.ndarray) -> np.ndarray:
        """Return the standard deviation of a sum's error."""
        return cls.precision.accumulate * np.sqrt(terms / 6 * squares)

    @classmethod
    def _rounded(cls, value: np.ndarray, spread: np.ndarray | None) -> np.ndarray:
        """Return what would be stored for a value; `spread` is that of the sum it came out of."""
        size = np.abs(value)
        if value.ndim:                                    # a scalar sum stays in an accumulator
            cls.peak = max(cls.peak, float(size.max(initial=0.0)))
        size *= cls.precision.store
        found = cls.rng.uniform(-1, 1, value.shape)
        found *= np.maximum(size, cls.precision.smallest / 2)
        if spread is not None:
            found += cls.rng.standard_normal(value.shape) * spread
        found += value
        found[value == 0] = 0.0
        return found


def rough_class(precision: Precision, rng: np.random.Generator) -> type[Rough]:
    """Return the class of arrays that round as that precision does, by that generator."""
    return type("Rough", (Rough,), {"precision": precision, "rng": rng})


def _total_squares(ufunc: Any, method: str, plain: list[np.ndarray],
                   kwargs: dict[str, Any]) -> tuple[float, np.ndarray] | None:
    """Return how many terms an operation adds up, and the sum of their squares, or None."""
    if ufunc is np.matmul:
        return plain[0].shape[-1], plain[0] ** 2 @ plain[1] ** 2
    if ufunc is np.add and method == "reduce":
        squares = np.add.reduce(plain[0] ** 2, **kwargs)
        return plain[0].size / max(squares.size, 1), squares
    return None


def _plain(value: Any) -> np.ndarray:
    return value.view(np.ndarray) if isinstance(value, np.ndarray) else np.asarray(value)
