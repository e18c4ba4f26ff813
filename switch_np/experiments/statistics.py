"""What a comparison shows: a mean difference, its 95 % interval, and a grade that follows a rule.

Arms are compared seed by seed: a seed draws the same text, and where shapes agree the same first
weights, for every arm. The mean difference has Student's interval. The grade is *holds* if the
interval lies above 0, where positive is the paper's direction; *contradicted* if it lies below;
else *cannot tell*, and half the interval is the smallest effect that these seeds could have shown.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

GRADES = ("holds", "contradicted", "cannot tell")


class Effect(NamedTuple):
    """A mean difference over seeds, half its 95 % interval, and the differences' spread.

    `spread` is their standard deviation; `margin` is how far below 0 the interval may reach;
    `size` is the number of `samples`.

    >>> effect = measure(np.array([0.04, 0.06, 0.05]))
    >>> print(effect, effect.words, sep=", ")
    +0.050 ± 0.025: holds, 3 seeds, 5.0 times their spread
    """

    mean: float
    half: float
    spread: float
    size: int
    margin: float = 0.0
    samples: str = "seeds"

    @property
    def grade(self) -> str:
        """One of GRADES; an effect that is not finite cannot tell."""
        if self.mean - self.half > -self.margin:
            return "holds"
        return "contradicted" if self.mean + self.half < -self.margin else "cannot tell"

    @property
    def words(self) -> str:
        """How many were compared, and the effect in units of their spread."""
        counted = f"{self.size} {self.samples}"
        if not self.spread > 0:
            return counted
        return f"{counted}, {abs(self.mean) / self.spread:.1f} times their spread"

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.half:.3f}: {self.grade}"


def measure(differences: np.ndarray, margin: float = 0.0) -> Effect:
    """Return the effect that differences by seed show; with fewer than two the interval is ∞."""
    n = len(differences)
    if n < 2:
        return Effect(float(np.mean(differences)) if n else float("nan"), float("inf"),
                      float("nan"), n, margin)
    spread = float(np.std(differences, ddof=1))
    return Effect(float(np.mean(differences)), interval(n) * spread, spread, n, margin)


def interval(seeds: int) -> float:
    """Return half of the 95 % interval of a mean, in standard deviations of the seeds.

    >>> [round(interval(seeds), 3) for seeds in (2, 5, 10)]
    [8.985, 1.242, 0.715]
    """
    return _student(seeds - 1) / float(np.sqrt(seeds))


@cache
def _student(freedom: int) -> float:
    """Return t with 95 % of Student's distribution in [-t, t].

    With t = √freedom tan θ its density is proportional to cos(θ) ** (freedom - 1).
    """
    angle = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angle) ** (freedom - 1)
    inside = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(freedom ** 0.5 * np.tan(np.interp(0.95, inside / inside[-1], angle)))
