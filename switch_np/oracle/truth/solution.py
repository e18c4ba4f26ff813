"""A problem and its solution: what was asked of a layer, and every number that it should give.

`truth` solves problems; what judges a solution, or measures its noise, needs the numbers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from switch_np.conventions.margins import Margins
from switch_np.conventions.noise import Noise
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


class Problem(NamedTuple):
    """What was asked, in float64 throughout; the layer's arguments under their names."""

    x: np.ndarray
    params: Mapping[str, np.ndarray]
    config: SwitchConfig
    d_y: np.ndarray
    balance_coef: float = 0.0
    z_coef: float = 0.0
    padding: np.ndarray | None = None
    noise: Noise | None = None
    training: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """The numbers of one problem. The objective is sum(y · d_y) + coefficients · losses.

    Attributes
    ----------
    y, balance_loss, z_loss, objective
        The outputs; the losses without their coefficients.
    grads
        The gradient of the objective with respect to "x" and every parameter.
    seeds
        The same for the three parts of the objective: "output", "balance" and "z", the losses with
        coefficient 1.
    terms
        Per gradient its additive terms, such as terms["w_router"]["gate"]; they sum to `grads`.
    plan, margins, margin
        The decisions; how firm they are, as `plan.margins` says; and (T,) the smallest change of
        scores that would decide otherwise about a token.
    probs, logits, gates, scores
        (T, E), (T, E), (T, K) of the router, and the (T, E) that the choice goes by.
    intermediates
        What the layer computed on its way, such as "experts.hidden": see `caches`.
    problem
        What was asked.
    precision
        The coarsest precision among the arrays handed in.
    """

    y: np.ndarray
    balance_loss: float
    z_loss: float
    objective: float
    grads: dict[str, np.ndarray]
    seeds: dict[str, dict[str, np.ndarray]]
    terms: dict[str, dict[str, np.ndarray]]
    plan: Plan
    margins: Margins
    probs: np.ndarray
    logits: np.ndarray
    gates: np.ndarray
    scores: np.ndarray
    intermediates: dict[str, np.ndarray]
    problem: Problem
    precision: str

    @property
    def margin(self) -> np.ndarray:
        """(T,) how far each token is from another decision, in units of the scores."""
        margin: np.ndarray = np.minimum(self.margins.choice, self.margins.cut)
        return margin

    def outputs(self) -> dict[str, np.ndarray]:
        """Return y, balance_loss, z_loss and the gradients as "d_x", "d_w_router", ..."""
        return {"y": self.y, "balance_loss": np.asarray(self.balance_loss),
                "z_loss": np.asarray(self.z_loss)} | {
                    f"d_{name}": grad for name, grad in self.grads.items()}
