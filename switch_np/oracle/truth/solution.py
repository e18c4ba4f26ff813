"""A problem and its solution: a layer's inputs, and every number that it should give.

`reference` solves problems; judging a solution or measuring its noise needs only the numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from switch_np import switch_layer
from switch_np.conventions.arguments import without_capacity
from switch_np.conventions.margins import Margins
from switch_np.conventions.noise import Noise
from switch_np.oracle.truth import alone
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import LayerCache, LayerOutput
from switch_np.switch.plan import Plan

LOSSES = ("balance_loss", "z_loss")
ROWS = ("y", "d_x", "d_rows", "d_gates")      # these have a row for each token or expert's row


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
    alone: str | None = None     # the part that is asked for without a router, as `alone` names it

    @property
    def whole(self) -> bool:
        """Whether experts compute tokens: in a whole layer, or in one without its router."""
        return self.alone not in alone.BELOW

    @property
    def input_name(self) -> str:
        """What x holds: tokens, "x", or rows sorted by expert, "rows"."""
        return "rows" if self.alone in ("product", "combine") else "x"

    @property
    def padding_T(self) -> np.ndarray | None:
        """(T,) which tokens are padding; None without any."""
        return None if self.padding is None else self.padding.reshape(-1)

    @property
    def served_T(self) -> np.ndarray:
        """(T,) which tokens are routed: all but padding, where padding is left out."""
        if self.padding is None or self.config.conventions.padding_routing != "left_out":
            return np.ones(self.x[..., 0].size, bool)
        return ~self.padding.reshape(-1)

    @property
    def limited(self) -> bool:
        """Whether an expert has a limited number of slots."""
        return self.config.expert_capacity(self.x[..., 0].size, self.training) is not None

    def forward(self, plan: Plan | None) -> tuple[LayerOutput, LayerCache]:
        """Return the layer's forward, under a given plan of any capacity or under its own."""
        if self.alone is not None:
            assert plan is not None
            return alone.forward(self.alone, self.params, self.x, self.config, plan,
                                 self.noise or Noise(), self.padding_T, self.training)
        config = self.config if plan is None else without_capacity(self.config)
        return switch_layer.forward(self.params, self.x, config, plan=plan, noise=self.noise,
                                    padding=self.padding, training=self.training)

    def backward(self, d_y: np.ndarray, cache: LayerCache, d_balance_loss: float = 0.0,
                 d_z_loss: float = 0.0, **d_router: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of x, by its name, and of the parameters."""
        d_x, grads = alone.backward(d_y, self.params, self.x.shape, cache) if self.alone else (
            switch_layer.backward(d_y, cache, float(d_balance_loss), float(d_z_loss), **d_router))
        return {self.input_name: d_x, **grads}


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """The numbers of one problem. The objective is sum(y · d_y) + coefficients · losses.

    Attributes
    ----------
    y, balance_loss, z_loss, objective
        The outputs; the losses without their coefficients, None where no router is known.
    grads, seeds
        The gradient of the objective with respect to "x" and every parameter; the same for its
        three parts: "output", "balance" and "z", the losses with coefficient 1.
    terms
        Per gradient its additive terms, such as terms["w_router"]["gate"]; they sum to `grads`.
    plan, margins, margin
        The decisions; their margins, as `plans.margins` gives them; and (T,) the smallest change of
        scores that would change a decision about a token.
    probs, logits, gates, scores
        (T, E), (T, E), (T, K) of the router, and (T, E) by which experts are chosen.
    intermediates
        The layer's intermediate results, such as "experts.hidden": see `caches`.
    problem, precision
        What was asked, and the coarsest precision among the arrays given.
    """

    y: np.ndarray
    balance_loss: float | None
    z_loss: float | None
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

    @property
    def finite_scores(self) -> np.ndarray:
        """The scores, 0 for experts of a closed group, whose score is -inf."""
        return np.where(np.isfinite(self.scores), self.scores, 0.0)

    def outputs(self) -> dict[str, np.ndarray]:
        """Return y, balance_loss, z_loss and the gradients as "d_x", "d_w_router", ..."""
        return outputs(self, self.grads)


def outputs(out: Any, grads: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return y and the losses of a layer's output, or of a solution, and gradients as "d_..."."""
    return {name: np.asarray(value) for name in ("y", *LOSSES)
            if (value := getattr(out, name)) is not None} | {
        f"d_{name}": grad for name, grad in grads.items()}


def frozen(value: Any) -> Any:
    """Return the same numbers, read-only: arrays, and dicts and named tuples of them.

    >>> frozen({"y": np.zeros(2)})["y"][0] = 1.0
    Traceback (most recent call last):
    ValueError: assignment destination is read-only
    """
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
        return value
    if isinstance(value, Mapping):
        return MappingProxyType({name: frozen(part) for name, part in value.items()})
    return type(value)(*map(frozen, value)) if hasattr(value, "_fields") else value
