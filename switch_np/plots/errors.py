"""Pictures of the sizes of errors and margins, one dot per number, against limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def strips(ax: Axes, rows: Mapping[str, np.ndarray], xlabel: str, limits: Mapping[str, float],
           lowest: float, *, alarm: bool = True) -> Axes:
    """Draw a strip of dots per row on a logarithmic axis, and a vertical line per limit.

    Parameters
    ----------
    ax, xlabel
        Where to draw, and what the numbers are.
    rows
        Non-negative numbers of any shape, by the row's label.
    limits
        Positive numbers by name. What exceeds the first is drawn as a red cross, unless `alarm` is
        False: then large numbers are no fault.
    lowest
        Where the axis begins, positive; smaller numbers, such as zeros, are drawn there.
    """
    rng, first = np.random.default_rng(0), next(iter(limits.values()))
    for row, numbers in enumerate(rows.values()):
        numbers = np.maximum(np.ravel(numbers), lowest)
        height = row + rng.uniform(-0.3, 0.3, numbers.shape)
        beyond = alarm & (numbers > first)
        for chosen, color, mark in ((~beyond, "#555555", "."), (beyond, "#D55E00", "x")):
            ax.plot(numbers[chosen], height[chosen], mark, color=color, markersize=4,
                    linestyle="none", zorder=1)
    for (label, limit), dashes in zip(limits.items(), ("-", "--", ":")):
        ax.axvline(limit, color="#0072B2", linestyle=dashes, label=label, zorder=2)
    ax.set(xscale="log", xlabel=xlabel, yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticklabels(rows)
    ax.set_xlim(left=0.7 * lowest)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8, frameon=False,
              ncols=len(limits))
    return ax
