"""Numbers as text, for the tables and titles of experiments."""

from __future__ import annotations

import numpy as np


def mean_and_spread(values: np.ndarray, digits: int) -> str:
    """Return the mean over the seeds, and half the distance from the least to the greatest.

    >>> mean_and_spread(np.array([2.0, 2.1, 2.4]), 2)
    '2.17 ± 0.20'
    >>> mean_and_spread(np.array([2.0, np.nan]), 2)
    '2.00 (1 of 2 diverged)'
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "diverged" if len(values) else ""
    mean = f"{finite.mean():.{digits}f}"
    if len(finite) < len(values):
        return f"{mean} ({len(values) - len(finite)} of {len(values)} diverged)"
    return mean if len(finite) == 1 else f"{mean} ± {np.ptp(finite) / 2:.{digits}f}"


def lead(value: float, unit: str, other: str = "", digits: int = 3) -> str:
    """Say how far something is ahead, or behind if the value is negative.

    >>> lead(0.25, "bits", "dense"), lead(-0.04, "nats", digits=2)
    ('0.250 bits ahead of dense', '0.04 nats behind')
    """
    side = "behind" if value <= 0 else "ahead of" if other else "ahead"
    return f"{abs(value):.{digits}f} {unit} {side} {other}".rstrip()
