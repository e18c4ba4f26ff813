"""Derivatives without differences: the complex step, and a check of a backward against it.

For an analytic function, f(x + ih) = f(x) + ih f'(x) + O(h²): the imaginary part, over h, is the
derivative, and no two nearby numbers are subtracted. With h = 1e-40 the error is that of one
rounding (Squire and Trapp, SIAM Review 40, 1998). f must keep the imaginary part: no `abs`, `norm`,
`conj` or `float`, and every decision (an argmax, a mask) made on the real part or beforehand.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check, signatures, tree

STEP = 1e-40


@signatures.checked
def complex_step(f: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """Return the gradient of a scalar function at a float array of any shape, in float64.

    `f` takes a complex array shaped like x and returns a complex number. A real result is refused,
    since the imaginary part, and with it the derivative, was lost.

    >>> complex_step(lambda x: (x ** 3).sum(), np.array([1.0, 2.0])).tolist()
    [3.0, 12.0]
    """
    moved, gradient = _copy(x, np.complex128), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        moved[index] += 1j * STEP
        value = np.asarray(f(moved))
        if value.dtype.kind != "c" or value.size != 1:
            raise TypeError("f must return one complex number for a complex array, got "
                            f"{value.dtype} of shape {value.shape}")
        gradient[index] = value.imag.item() / STEP
        moved[index] = x[index]
    return gradient


@signatures.checked
def central_difference(f: Callable[[np.ndarray], Any], x: np.ndarray,
                       step: float = 1e-5) -> np.ndarray:
    """Return the gradient by central differences, for functions that are not complex-safe.

    Good to about 1e-9 of the largest entry in float64, and to nothing across a kink.

    >>> central_difference(lambda x: (x ** 2).sum(), np.array([1.0, 2.0])).round(8).tolist()
    [2.0, 4.0]
    """
    check.number("step", step, np.finfo(float).tiny)
    moved, gradient = _copy(x, np.float64), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        moved[index] = x[index] + step
        above = float(f(moved))
        moved[index] = x[index] - step
        gradient[index] = (above - float(f(moved))) / (2 * step)
        moved[index] = x[index]
    return gradient


def _copy(x: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    check.floats("x", x, np.shape(x))
    if x.dtype.kind == "c":
        raise TypeError(f"x must be real, got {x.dtype}")
    return x.astype(dtype)


@signatures.checked
def check_backward(forward: Callable[[Any], tuple[Any, Any]], backward: Callable[..., Any],
                   inputs: Mapping[str, Any], rng: np.random.Generator,
                   tolerance: float = 1e-12) -> dict[str, float]:
    """Compare every entry of every gradient with the complex step; `rng` draws what arrives.

    Parameters
    ----------
    forward, backward
        forward(inputs) -> (output or tuple of outputs, cache); backward(d_output, ..., cache) ->
        gradients, with the structure of `inputs`.
    inputs
        (Nested) dict of float64 arrays; all of them are differentiated.
    tolerance
        Largest error allowed, as a share of the tensor's largest entry; that share is returned by
        path name. Where the complex step gives exactly 0, so must the gradient.

    Raises
    ------
    AssertionError
        Naming the tensor and its worst entry.

    Examples
    --------
    >>> forward = lambda inputs: (inputs["x"] ** 2, inputs["x"])
    >>> backward = lambda d_y, x: {"x": 2 * x * d_y}
    >>> check_backward(forward, backward, {"x": np.ones(3)}, np.random.default_rng(0))["x"] < 1e-15
    True
    """
    outputs, cache = forward(inputs)
    upstream = [rng.standard_normal(np.shape(y)) for y in _listed(outputs)]
    grads, flat = tree.flatten(backward(*upstream, cache)), tree.flatten(inputs)
    if set(grads) != set(flat):
        raise AssertionError(f"backward gave gradients of {sorted(grads)}, wanted {sorted(flat)}")

    def objective(name: str, value: np.ndarray) -> complex:
        outputs = _listed(forward(tree.unflatten(flat | {name: value}))[0])
        return complex(sum((y * d_y).sum() for y, d_y in zip(outputs, upstream)))

    return {name: compare(name, grads[name], complex_step(partial(objective, name), value),
                          tolerance) for name, value in flat.items()}


def _listed(outputs: Any) -> Any:
    return [outputs] if isinstance(outputs, np.ndarray | np.generic) else outputs


@signatures.checked
def compare(name: str, got: np.ndarray, want: np.ndarray, tolerance: float = 1e-12) -> float:
    """Return the largest error as a share of the largest wanted entry; complain if it is too large.

    >>> compare("d_x", np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    Traceback (most recent call last):
    AssertionError: d_x: error 0.2 of the largest entry, worst at (1,): got 2.0, want 2.5
    """
    check.number("tolerance", tolerance, 0)
    for said, value in (("got", got), ("want", want)):
        if value.dtype.kind not in "iufc":
            raise TypeError(f"{said} must hold numbers, got {value.dtype}")
    if np.shape(got) != np.shape(want):
        raise AssertionError(f"{name}: got shape {np.shape(got)}, want {np.shape(want)}")
    if want.size == 0:
        return 0.0
    for said, value in (("got", got), ("want", want)):
        if not np.isfinite(value).all():
            raise AssertionError(f"{name}: {said} NaN or infinity")
    error = np.abs(got - want)
    worst = tuple(map(int, np.unravel_index(error.argmax(), error.shape)))
    share = float(error[worst] / max(np.abs(want).max(), np.finfo(float).tiny))
    if share > tolerance:
        raise AssertionError(f"{name}: error {share:.2g} of the largest entry, worst at {worst}: "
                             f"got {got[worst]}, want {want[worst]}")
    nonzero = np.argwhere((want == 0) & (got != 0))
    if len(nonzero):
        where = tuple(nonzero[0].tolist())
        raise AssertionError(f"{name}: got {got[where]} at {where}, want exactly 0")
    return share
