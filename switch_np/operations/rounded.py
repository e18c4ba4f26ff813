"""Arrays that round the result of every operation, so that unchanged code computes in bfloat16.

They are stored in float32 (or float64), with the lower bits zero. Products and sums accumulate in
the wider dtype and are rounded once, as in matrix units. A plain array that meets a rounded one is
taken as it is.

Forward:   y = round(f(x)) for every f
Backward:  straight through, d_x = f'(x) d_y, itself rounded.
"""

from typing import Any

import numpy as np

from switch_np.operations import check
from switch_np.operations.precision import round_in_place, round_to


class Rounded(np.ndarray):
    """An array whose ufuncs, products and einsums give rounded arrays of its own class.

    The core avoids calls that do not: `np.dot`, `cumsum`, `np.asarray`, `np.ascontiguousarray`.
    """

    precision = ""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None,
                        **kwargs: Any) -> Any:
        kinds = {type(value) for value in (*inputs, *(out or ())) if isinstance(value, Rounded)}
        if kinds != {type(self)} or ufunc.nout > 1:
            return NotImplemented
        if out is not None:
            kwargs["out"] = tuple(plain(value) for value in out)
        result = self._stored(getattr(ufunc, method)(*map(plain, inputs), **kwargs))
        return result if out is None else out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.einsum:
            return self._stored(np.einsum(*map(plain, args), **kwargs))
        result = super().__array_function__(function, types, args, kwargs)
        # np.where and np.concatenate make plain arrays.
        return self._stored(result.copy()) if type(result) is np.ndarray else result

    def argmax(self, *args: Any, **kwargs: Any) -> Any:                # indices are not rounded
        return plain(self).argmax(*args, **kwargs)

    def argsort(self, *args: Any, **kwargs: Any) -> Any:
        return plain(self).argsort(*args, **kwargs)

    def _stored(self, value: Any) -> Any:
        """Return a fresh result rounded, in this class; what is not floating point, as it is."""
        value = np.asarray(value)
        if value.dtype.kind == "c":
            raise TypeError(f"an array rounded to {self.precision} must not meet complex numbers: "
                            "a complex step is lost in rounding")
        rounds = value.dtype.kind == "f"
        return round_in_place(value, self.precision).view(type(self)) if rounds else value


class Bfloat16(Rounded):
    """Rounds to bfloat16."""

    precision = "bfloat16"


class Float16(Rounded):
    """Rounds to float16."""

    precision = "float16"


KINDS = {kind.precision: kind for kind in (Bfloat16, Float16)}


def enter(x: np.ndarray, name: str) -> Rounded:
    """Return x rounded, as an array that keeps rounding.

    >>> x = enter(np.array([1.0, 2.0], np.float32), "bfloat16")
    >>> (x / 3).tolist(), ((x / 3) * 3).tolist()
    ([0.333984375, 0.66796875], [1.0, 2.0])
    """
    check.choice("precision", name, list(KINDS))
    return round_to(x, name).view(KINDS[name])


def plain(x: Any) -> Any:
    """Return the same numbers as an array that does not round; anything else as it is."""
    return x.view(np.ndarray) if isinstance(x, Rounded) else x


def cast(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return x as an array of the class of `like`, rounded or plain; x itself if it is one.

    The gradient is cast back, and nothing else.

    >>> x = np.array([1.001], np.float32)
    >>> cast(x, like=enter(x, "bfloat16")).tolist(), cast(x, like=x) is x
    ([1.0], True)
    """
    if type(x) is type(like):
        return x
    return enter(plain(x), like.precision) if isinstance(like, Rounded) else plain(x)
