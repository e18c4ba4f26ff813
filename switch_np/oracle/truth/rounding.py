"""How far a correct kernel may be off: the rounding noise of every number, computed, not guessed.

The layer's own code runs 12 more times with its decisions replayed, on arrays that add an error to
the result of each operation, as a kernel of the stated precision would: formulas in
`rounding_array`. The root mean square of the deviations from the reference is sigma. It scales with
the upstream gradient, as rounding does, and needs no constant.

Where the balance loss counts scores, not choices, near-ties are sampled both ways.

Two floors. Twelve samples can miss by luck: no sigma is below 0.3 of the median of its row. And
where all samples and the reference are 0 the mathematics has a zero: sigma is 0, and a kernel must
give exactly 0.
"""

from typing import NamedTuple

import numpy as np

from switch_np.conventions import serve
from switch_np.operations.roundoff import named
from switch_np.oracle.truth import caches
from switch_np.oracle.truth.rounding_array import KINK, Rough, rough_class
from switch_np.oracle.truth.solution import Solution, outputs

SAMPLES = 12
ROW_FLOOR = 0.3


class Rounding(NamedTuple):
    """What rounding does to a problem's numbers."""

    sigma: dict[str, np.ndarray]     # per element of `Solution.outputs` and of "scores" (T, E)
    peak: float                      # the largest magnitude on the way, intermediates included


@np.errstate(over="ignore", invalid="ignore")        # an overflow shows in the sigma itself
def estimate(ref: Solution, precision: str, samples: int = SAMPLES) -> Rounding:
    """Return the rounding noise of a correct kernel on the reference's problem.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> ref = reference(**draw(SwitchConfig(num_experts=2), 8, d_model=4, d_ff=6))
    >>> ratio = estimate(ref, "bfloat16").sigma["y"] / estimate(ref, "float32").sigma["y"]
    >>> bool(np.median(ratio[ref.y != 0]) > 2.0 ** 14)
    True
    """
    wanted = ref.outputs() | {"scores": ref.finite_scores}
    squares = {name: np.zeros(np.shape(value)) for name, value in wanted.items()}
    kind = named(precision)
    # Rounding in float64 itself is the reference's too: measure a coarser one, and scale down.
    finer = 2.0 ** -20 if precision == "float64" else 1.0
    kind = kind._replace(store=kind.store / finer, accumulate=kind.accumulate / finer)
    rough = rough_class(kind, np.random.default_rng(0))
    rough.drift = ref.problem.alone == "product"
    for _ in range(samples):
        for name, value in _run(ref, rough).items():
            squares[name] += (np.asarray(value) - wanted[name]) ** 2
    sigma = {name: np.sqrt(square / samples) * finer for name, square in squares.items()}
    return Rounding({name: _floored(value, wanted[name], kind.smallest)
                     for name, value in sigma.items()}, rough.peak)


def _run(ref: Solution, rough: type[Rough]) -> dict[str, np.ndarray]:
    def enter(array: np.ndarray) -> np.ndarray:
        entered = array.copy().view(rough)
        entered.given = True
        return entered

    p, plan = ref.problem, ref.plan
    entered = p._replace(params={name: enter(value) for name, value in p.params.items()},
                         x=enter(p.x))
    out, cache = entered.forward(plan)
    if p.config.counts_scores:        # near-ties may be counted either way, whatever the plan
        far_TE = ref.probs + KINK * (np.asarray(out.probs) - ref.probs)
        plan = serve.recount(plan, far_TE, p.padding_T, p.config, p.training)
        out, cache = entered.forward(plan)
    # The zeros add only the rounding of d_probs and d_logits as they are stored.
    grads = p.backward(
        enter(p.d_y), caches.with_rounded_log_z(cache), p.balance_coef, p.z_coef,
        d_probs=enter(np.zeros(out.probs.shape)), d_logits=enter(np.zeros(out.probs.shape)))
    # Of the scores only the router's part moves; bias and noise stay.
    moved = out.probs - ref.probs if p.noise is None else out.logits - ref.logits
    return outputs(out, grads) | {"scores": ref.finite_scores + np.asarray(moved)}


def _floored(sigma: np.ndarray, value: np.ndarray, smallest: float) -> np.ndarray:
    """Return sigma with its floors, and 0 where both sigma and the value are 0."""
    nothing = (sigma == 0) & (value == 0)
    if sigma.size and sigma.ndim:
        middle = np.count_nonzero(sigma, axis=-1, keepdims=True) // 2
        falling = -np.sort(-sigma, axis=-1)
        sigma = np.maximum(sigma, ROW_FLOOR * np.take_along_axis(falling, middle, axis=-1))
    return np.where(nothing, 0.0, np.maximum(sigma, smallest))
