"""Test a test: which broken kernels would it have let through?

The test is a function of a layer, to which it hands inputs of its own. It is given the museum's
layers one after the other, and a few that need no bug at all: all zeros, all NaN, the batch
permuted, the last row lost. A test worth having refuses every one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest

import numpy as np

from switch_np.oracle.explain import museum
from switch_np.operations import signatures
from switch_np.operations.adapters import lift, precision_of, to_numpy

Result = dict[str, Any]
NUMBERS = ("y", "balance_loss", "z_loss", "expert", "kept", "slot")


def _zeros(result: Result) -> Result:
    return _each(result, lambda array: np.zeros_like(array))


def _nan(result: Result) -> Result:
    return _each(result, lambda array: np.full_like(array, np.nan))


def _permuted(result: Result) -> Result:
    grads = {**result["grads"], "x": np.roll(result["grads"]["x"], 1, axis=0)}
    return {**result, "y": np.roll(result["y"], 1, axis=0), "grads": grads}


def _lost(result: Result) -> Result:
    keep = (np.arange(len(result["y"])) < len(result["y"]) - 1)[:, None]
    grads = {**result["grads"], "x": result["grads"]["x"] * keep}
    return {**result, "y": result["y"] * keep, "grads": grads}


def _each(result: Result, change: Callable[[np.ndarray], np.ndarray]) -> Result:
    numbers = {name: change(np.asarray(result[name])) for name in ("y", "balance_loss", "z_loss")}
    return {**result, **numbers,
            "grads": {name: change(grad) for name, grad in result["grads"].items()}}


BROKEN = {"all zeros": _zeros, "all NaN": _nan, "the batch permuted": _permuted,
          "the last row lost": _lost}


@dataclass(frozen=True)
class Score:
    """What a test caught, and what it let through.

    Attributes
    ----------
    caught, missed
        Names of broken kernels and museum exhibits.
    unseen
        Exhibits that made no difference on the test's inputs: no drops, no padding, k = 1 and such.
    """

    caught: tuple[str, ...]
    missed: tuple[str, ...]
    unseen: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.caught) + len(self.missed) + len(self.unseen)
        lines = [f"caught {len(self.caught)} of {total} broken kernels"]
        lines += [f"  let through  {name}: {_what(name)}" for name in self.missed]
        lines += [f"  not reached  {name}: {_what(name)}" for name in self.unseen]
        return "\n".join(lines)


@signatures.checked
def score(test: Callable[[Callable[..., Result]], Any], *, precision: str | None = None) -> Score:
    """Run a test over right and broken layers.

    Parameters
    ----------
    test
        Takes a layer and raises (or returns False) where it finds it wrong. The layer is called as
        layer(x, params, config, d_y=, balance_coef=, z_coef=, padding=), arrays of any library,
        tokens (T, D), and returns a dict of NumPy arrays: y, balance_loss, z_loss, expert, kept,
        slot and grads, a dict of "x", "w_router", "w_in" and "w_out".
    precision
        In which the layers compute; default: the coarsest dtype of x and params.

    Raises
    ------
    ValueError
        Where the test refuses the right layer.

    Examples
    --------
    >>> from switch_np.oracle import draw
    >>> from switch_np import SwitchConfig
    >>> asked = draw(SwitchConfig(num_experts=2), 8, d_model=4, d_ff=6)
    >>> def test(layer):
    ...     assert abs(layer(**asked)["y"]).max() < 100
    >>> score(test).caught
    ('all NaN',)
    """
    refused = _refusal(test, _Trial(None, None, precision))
    if refused is not None:
        raise ValueError(f"test must accept the right layer, got {refused!r}")
    caught: list[str] = []
    missed: list[str] = []
    unseen: list[str] = []
    trials = {name: _Trial(None, change, precision) for name, change in BROKEN.items()}
    trials |= {name: _Trial(name, None, precision) for name in museum.EXHIBITS}
    for name, layer in trials.items():
        refused = _refusal(test, layer)
        (caught if refused is not None else missed if layer.differs else unseen).append(name)
    return Score(tuple(caught), tuple(missed), tuple(unseen))


class _Trial:
    """A layer under trial, with the right one beside it. `differs`: the two have differed."""

    def __init__(self, exhibit: str | None, change: Callable[[Result], Result] | None,
                 precision: str | None) -> None:
        self.exhibit, self.change, self.precision, self.differs = exhibit, change, precision, False

    def __call__(self, x: Any, params: dict[str, Any], config: Any, d_y: Any = None,
                 balance_coef: float = 0.0, z_coef: float = 0.0, padding: Any = None) -> Result:
        kind = self.precision or precision_of(x, *params.values()) or "float64"
        x = lift(x, "x")
        params = {name: lift(value, f"params[{name!r}]") for name, value in params.items()}
        asked: dict[str, Any] = {
            "d_y": np.zeros(x.shape) if d_y is None else lift(d_y, "d_y"),
            "balance_coef": balance_coef, "z_coef": z_coef, "precision": kind,
            "padding": None if padding is None else to_numpy(padding, "padding")}
        right = museum.run(None, x, params, config, **asked)
        given = museum.run(self.exhibit, x, params, config, **asked)
        if self.change is not None:
            given = self.change(given)
        pairs = zip([*given["grads"].values(), *(given[name] for name in NUMBERS)],
                    [*right["grads"].values(), *(right[name] for name in NUMBERS)])
        self.differs |= not all(np.array_equal(mine, theirs) for mine, theirs in pairs)
        return given


def _refusal(test: Callable[[Callable[..., Result]], Any], layer: _Trial) -> BaseException | None:
    """Return what the test raised; None where it let the layer through, or skipped itself."""
    try:
        return AssertionError("the test returned False") if test(layer) is False else None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:                        # pytest.fail raises no Exception
        skipped = isinstance(error, SkipTest) or type(error).__name__ == "Skipped"
        return None if skipped else error


def _what(name: str) -> str:
    known = museum.EXHIBITS.get(name)
    return known.what if known else "needs no reference to be seen"
