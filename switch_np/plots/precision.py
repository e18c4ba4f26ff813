"""Pictures of precision: the bits of a number, and what modes of rounding give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
         ("#000000", "x")]


def dots_by_rate(ax: Axes, values: Mapping[str, Mapping[float, np.ndarray]], ylabel: str,
                 lost: bool = True) -> Axes:
    """Draw a dot per seed and a line through the means, over the learning rate.

    `values`: by label, then by rate, a number per seed; NaN, a run that diverged, is drawn as a
    cross at the top if `lost`, else left out.
    """
    spread = np.linspace(-0.03, 0.03, len(values))
    for (label, rates), (color, mark), aside in zip(values.items(), MARKS, spread):
        x = np.array(list(rates)) * 10 ** aside
        ax.plot(x, [np.nanmean(seeds) if np.isfinite(seeds).any() else np.nan
                    for seeds in rates.values()], color=color, linewidth=1.2, zorder=1)
        for place, seeds in zip(x, rates.values()):
            there = seeds[np.isfinite(seeds)]
            ax.plot(np.full(len(there), place), there, mark, color=color, markersize=5, alpha=0.7,
                    label=label if place == x[0] else None)
            if lost and len(there) < len(seeds):
                ax.plot([place], [0.98], "X", color=color, markersize=9,
                        transform=ax.get_xaxis_transform())
    ax.set(xscale="log", xlabel="peak learning rate", ylabel=ylabel)
    ticks = list(next(iter(values.values())))
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return ax


def bars(ax: Axes, values: Mapping[str, float], xlabel: str) -> Axes:
    """Draw a horizontal bar per label, its number at its end."""
    drawn = ax.barh(range(len(values)), values.values(), color="#0072B2", height=0.6)
    ax.bar_label(drawn, [f"{value:.3g}" for value in values.values()], padding=4, fontsize=9)
    ax.set_yticks(range(len(values)), values)
    ax.set(xlabel=xlabel, ylim=(len(values) - 0.4, -0.6), xlim=(0, 1.12 * max(values.values())))
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    return ax
