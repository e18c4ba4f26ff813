"""The reference's own proof: its gradients against the complex step, expert by expert.

For each tensor, or each expert's part of it, v is a random direction. One forward at θ + ihv gives
the derivative of all three parts of the objective along v, to the last digit (`gradcheck`), and

    residual = |⟨gradient, v⟩ - derivative| / scale,   scale = Σ |gradient · v|

or, where a gradient is a difference of larger numbers (a gate that is always 1, a perfect balance),
the size of these: what rounding moves, in units of the last place. Each expert has a projection, so
that no large block hides a small one, and so has each part of the objective, so that the output's
gradient does not hide a loss's. A certificate holds if all residuals are at most 1e-13.

Where a library stops a gradient, or sends it straight through, the complex step holds the detached
factors at their real parts: that surrogate is certified, and the certificate names the factors.
"""

from dataclasses import dataclass, replace

import numpy as np

from switch_np.operations import check, signatures
from switch_np.operations.gradcheck import STEP
from switch_np.oracle.judge.tensor import blocks
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.rounding import estimate

TOLERANCE = 1e-13


@dataclass(frozen=True)
class Certificate:
    """How a reference's gradients agree with the complex step.

    Attributes
    ----------
    residuals
        Per (seed, tensor, block), such as ("z", "w_router", "expert 2").
    frozen
        The factors that the conventions detach: they count as constants, here as in the gradient.
    """

    residuals: dict[tuple[str, str, str], float]
    frozen: tuple[str, ...] = ()

    @property
    def residual(self) -> float:
        """The largest residual."""
        return max(self.residuals.values(), default=0.0)

    @property
    def ok(self) -> bool:
        """Whether every residual is at most 1e-13."""
        return self.residual <= TOLERANCE

    def __str__(self) -> str:
        if not self.residuals:
            return "nothing to certify"
        (seed, name, block), worst = max(self.residuals.items(), key=lambda item: item[1])
        return (f"{'certified' if self.ok else 'NOT CERTIFIED'}: {len(self.residuals)} projections,"
                f" largest residual {worst:.1e} (d_{name}, {block}, from the {seed})"
                + "".join(f"; of the surrogate with {factor} frozen" for factor in self.frozen))


@signatures.checked
def certify(ref: Reference, seed: int = 0) -> Certificate:
    """Check a reference's gradients by the complex step, its decisions replayed.

    Examples
    --------
    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> ref = reference(**draw(SwitchConfig(num_experts=2), 8, d_model=4, d_ff=6))
    >>> certify(ref).ok
    True
    """
    check.integer("seed", seed, 0)
    p, rng = ref.problem, np.random.default_rng(seed)
    residuals = {}
    rounding = {part: _rounding(ref, part) for part in ref.seeds}
    for name, grad in ref.grads.items():
        label, names = blocks(f"d_{name}", grad.shape, ref)
        label = np.broadcast_to(label, grad.shape)
        directions = rng.standard_normal(grad.shape)
        for number in np.unique(label):
            v = np.where(label == number, directions, 0.0)
            step = 1j * STEP * v
            moved = p._replace(x=p.x + step) if name == p.input_name else p._replace(
                params={**p.params, name: p.params[name] + step})
            out, _ = moved.forward(ref.plan)
            steps = ((out.y * p.d_y).sum(), out.balance_loss, out.z_loss)
            for part, value in zip(ref.seeds, steps):       # a part alone has no losses
                along = ref.seeds[part][name] * v
                large = np.sqrt(((rounding[part][f"d_{name}"] * v) ** 2).sum()) * 2.0 ** 53
                scale = max(np.abs(along).sum(), large)
                error = abs(along.sum() - np.imag(value) / STEP)
                residuals[part, name, names[number]] = float(
                    error / scale if scale else (np.inf if error else 0.0))
    conventions = p.config.conventions
    return Certificate(residuals, tuple(factor for factor, held in (
        ("the gates' own divisors", conventions.gate_gradient == "unit"),
        ("the dispatch mask's value, 1,", conventions.dispatch_gradient == "straight_through"))
        if held))


def _rounding(ref: Reference, part: str) -> dict[str, np.ndarray]:
    """Return what float64's rounding does to the gradients of one part of the objective."""
    p = ref.problem
    alone = p._replace(d_y=p.d_y if part == "output" else np.zeros_like(p.d_y),
                       balance_coef=float(part == "balance"), z_coef=float(part == "z"))
    return estimate(replace(ref, problem=alone, grads=ref.seeds[part]), "float64", 4).sigma
