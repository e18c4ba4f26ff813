"""Whether a peer computes the same: outputs and gradients against ours, in float32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LIMIT = 1e-4         # of an array's largest number


class Disagreement(Exception):
    """A peer computes something else."""


def check(theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray],
          without: tuple[str, ...] = ()) -> float:
    """Return the largest error, relative to the largest number of its array.

    Parameters
    ----------
    theirs, ours
        Arrays by name.
    without
        Names that theirs lacks.

    Examples
    --------
    >>> check({"y": np.array([1.0, 2.0])}, {"y": np.array([1.0, 2.00002]), "z": np.ones(1)}, ("z",))
    1e-05
    >>> check({"y": np.array([1.0])}, {"y": np.array([2.0])})
    Traceback (most recent call last):
    benchmarks.agreement.Disagreement: y differs by 0.5 of its largest number
    """
    if set(theirs) | set(without) != set(ours):
        raise Disagreement(f"it gives {sorted(theirs)}, ours {sorted(ours)}")
    worst = 0.0
    for name, value in theirs.items():
        if value.shape != ours[name].shape:
            raise Disagreement(f"{name} has shape {value.shape}, ours {ours[name].shape}")
        scale = max(float(np.abs(ours[name]).max()), 1e-30)
        error = round(float(np.abs(value - ours[name]).max()) / scale, 9)
        if not error < LIMIT:
            raise Disagreement(f"{name} differs by {error:.2g} of its largest number")
        worst = max(worst, error)
    return worst
