"""Test a test: which broken kernels would it have let through?

The test is a function that takes a layer and calls it with inputs of its own. It is given the
museum's layers one after the other, and a few plainly broken ones: all zeros, all NaN, the batch
permuted, the last row lost. A good test refuses every one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import SkipTest

import numpy as np

from switch_np.operations import signatures
from switch_np.operations.adapters import lift, precision_of, to_numpy
from switch_np.oracle.explain import museum
from switch_np.oracle.truth.solution import LOSSES

Result = dict[str, Any]
Change = Callable[[np.ndarray], np.ndarray]


def _without_the_last(rows: np.ndarray) -> np.ndarray:
    return rows * (np.arange(len(rows)) < len(rows) - 1)[:, None]


def _numbers(result: Result, change: Change) -> Result:
    return {**result, **{name: change(np.asarray(result[name])) for name in ("y", *LOSSES)},
            "grads": {name: change(grad) for name, grad in result["grads"].items()}}


def _rows(result: Result, change: Change) -> Result:
    grads = {**result["grads"], "x": change(result["grads"]["x"])}
    return {**result, "y": change(result["y"]), "grads": grads}


BROKEN: dict[str, Callable[[Result], Result]] = {
    "all zeros": partial(_numbers, change=np.zeros_like),
    "all NaN": partial(_numbers, change=partial(np.full_like, fill_value=np.nan)),
    "the batch permuted": partial(_rows, change=partial(np.roll, shift=1, axis=0)),
    "the last row lost": partial(_rows, change=_without_the_last)}


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
        whats = dict.fromkeys(BROKEN, "needs no reference to be seen") | {
            name: exhibit.what for name, exhibit in museum.EXHIBITS.items()}
        lines += [f"  let through  {name}: {whats[name]}" for name in self.missed]
        lines += [f"  not reached  {name}: {whats[name]}" for name in self.unseen]
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
    refused = _refusal(test, _Trial(precision))
    if refused is not None:
        raise ValueError(f"test must accept the right layer, got {refused!r}")
    trials = {name: _Trial(precision, change=change) for name, change in BROKEN.items()}
    trials |= {name: _Trial(precision, name) for name in museum.EXHIBITS}
    found: dict[str, list[str]] = {"caught": [], "missed": [], "unseen": []}
    for name, layer in trials.items():
        caught = _refusal(test, layer) is not None
        found["caught" if caught else "missed" if layer.differs else "unseen"].append(name)
    return Score(**{what: tuple(names) for what, names in found.items()})


@dataclass
class _Trial:
    """A layer under test beside the right one. `differs`: whether their results ever differed."""

    precision: str | None
    exhibit: str | None = None
    change: Callable[[Result], Result] | None = None
    differs: bool = False

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
        mine, theirs = (
            museum.flat(each) | {name: each[name] for name in ("expert", "kept", "slot")}
            for each in (given, right))
        self.differs |= any(not np.array_equal(mine[name], theirs[name]) for name in mine)
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
