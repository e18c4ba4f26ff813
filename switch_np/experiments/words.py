"""Numbers as words, for the tables of experiments."""

from __future__ import annotations

import numpy as np


def mean_and_spread(values: np.ndarray, digits: int) -> str:
    """Return the mean of the seeds, and half the distance from the least to the greatest.

    >>> mean_and_spread(np.array([2.0, 2.1, 2.4]), 2)
    '2.17 ± 0.20'
    >>> mean_and_spread(np.array([2.0, np.nan]), 2)
    '2.00 (1 of 2 diverged)'
    """
    there = values[np.isfinite(values)]
    if not len(there):
        return "diverged" if len(values) else ""
    text = f"{there.mean():.{digits}f}"
    if len(there) < len(values):
        return f"{text} ({len(values) - len(there)} of {len(values)} diverged)"
    if len(there) == 1:
        return text
    return f"{text} ± {np.ptp(there) / 2:.{digits}f}"
