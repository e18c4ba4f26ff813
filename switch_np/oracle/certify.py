"""The reference's own proof: its gradients against the complex step, expert by expert.

For each tensor, or each expert's part of it, a random direction v: one forward at θ + ihv gives the
derivative of all three parts of the objective along v, to the last digit (`gradcheck`), and

    residual = |⟨gradient, v⟩ - derivative| / scale,   scale = Σ |gradient · v|

or, where the gradient is a difference of large numbers, what rounding leaves of it. Projections per
expert, so that no large tensor hides a small one; per seed, so that the output's gradient does not
hide that of a loss. A certificate holds at residuals of at most 1e-13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from switch_np.oracle.gradcheck import STEP
from switch_np.oracle.truth import Reference
from switch_np.oracle.verdict import blocks
from switch_np.switch import layer

TOLERANCE = 1e-13


@dataclass(frozen=True)
class Certificate:
    """What the complex step says of a reference.

    Attributes
    ----------
    residuals
        Per (seed, tensor, block), such as ("z", "w_router", "expert 2").
    """

    residuals: dict[tuple[str, str, str], float]

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
                f" largest residual {worst:.1e} (d_{name}, {block}, from the {seed})")


def certify(ref: Reference, seed: int = 0) -> Certificate:
    """Check a reference's gradients by the complex step, its decisions replayed.

    Examples
    --------
    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import problems, truth
    >>> ref = truth.reference(**problems.draw(SwitchConfig(num_experts=2), 8, d_model=4, d_ff=6))
    >>> certify(ref).ok
    True
    """
    p, rng = ref.problem, np.random.default_rng(seed)
    residuals = {}
    for name, grad in ref.grads.items():
        label, names = blocks(f"d_{name}", grad.shape, ref)
        label = np.broadcast_to(label, grad.shape)
        noise = ref.sigma("float64")[f"d_{name}"] * 2.0 ** 53
        for number in np.unique(label):
            v = np.where(label == number, rng.standard_normal(grad.shape), 0.0)
            moved = (p.x if name == "x" else p.params[name]) + 1j * STEP * v
            out, _ = layer.forward(
                {**p.params, **({} if name == "x" else {name: moved})},
                moved if name == "x" else p.x, p.config, plan=ref.plan, padding=p.padding,
                noise=p.noise, training=p.training)
            steps = {"output": (out.y * p.d_y).sum(), "balance": out.balance_loss, "z": out.z_loss}
            for part, value in steps.items():
                along = ref.seeds[part][name] * v
                scale = np.abs(along).sum()
                if part == "output":
                    scale = max(scale, np.sqrt(((noise * v) ** 2).sum()))
                error = abs(along.sum() - np.imag(value) / STEP)
                residuals[part, name, names[number]] = float(
                    error / scale if scale else (np.inf if error else 0.0))
    return Certificate(residuals)
