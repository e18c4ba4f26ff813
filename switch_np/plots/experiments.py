"""Pictures of experiments: what each arm gave with each seed, and the curves that led there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOOKS = [("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"),
         ("#E69F00", "-"), ("#000000", "--"), ("#56B4E9", "-."), ("#999999", "-"),
         ("#8A6D00", ":"), ("#004D40", "--")]


def arm_looks(labels: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return a colour and dashes per arm, the same in all pictures of an experiment.

    >>> arm_looks({"dense": "dense"})
    {'dense': ('#0072B2', '-')}
    """
    return {arm: LOOKS[n % len(LOOKS)] for n, arm in enumerate(labels)}


def seeds_by_arm(ax: Axes, values: Mapping[str, np.ndarray], xlabel: str,
                 paper: Mapping[str, str] | None = None, paper_label: str = "paper",
                 lower_is_better: bool = True) -> Axes:
    """Draw one row per arm: a dot per seed, a bar at their mean, the paper's word at the right.

    The title says which arm is best, and whether its seeds are all ahead of the next arm's.
    """
    names = list(values)
    for row, numbers in enumerate(values.values()):
        color = LOOKS[row % len(LOOKS)][0]
        there = numbers[np.isfinite(numbers)]
        ax.plot(there, np.full(len(there), row), "o", color=color, alpha=0.6, markersize=7,
                markeredgewidth=0)
        if len(there):
            mean = there.mean()
            ax.plot([mean, mean], [row - 0.32, row + 0.32], color=color, linewidth=3)
            ax.annotate(f"{mean:.3f}", (mean, row - 0.36), ha="center", va="bottom", fontsize=8)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel=xlabel, ylim=(len(names) - 0.5, -0.75))
    ax.margins(x=0.12)
    if paper:
        right = ax.secondary_yaxis("right")
        right.set_yticks(range(len(names)), [paper.get(name, "") for name in names], fontsize=8)
        right.set_ylabel(paper_label, fontsize=8)
        right.tick_params(length=0)
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(_best(values, lower_is_better), fontsize=10)
    return ax


def _best(values: Mapping[str, np.ndarray], lower_is_better: bool) -> str:
    """Say which arm is best by its mean, and how firm that is."""
    sign = 1 if lower_is_better else -1
    ranked = sorted((name for name in values if np.isfinite(values[name]).all()),
                    key=lambda name: sign * values[name].mean())
    if len(ranked) < 2:
        return ""
    first, second = (sign * values[name] for name in ranked[:2])
    apart = "all its seeds" if first.max() < second.min() else "but not all its seeds"
    return f"best: {ranked[0]}, {apart} ahead of {ranked[1]}"


def curves_by_arm(ax: Axes, curves: Mapping[str, np.ndarray], labels: Mapping[str, str],
                  column: str, ylabel: str, *, xlabel: str = "step",
                  x_scale: Mapping[str, float] | None = None, **axes: Any) -> Axes:
    """Draw each arm's mean over the seeds, in a band from the least to the greatest.

    Parameters
    ----------
    ax, ylabel, xlabel, axes
        Where to draw, and what; `axes` go to `Axes.set`.
    curves
        The table of curves: columns arm, seed, step and `column`.
    labels
        Which arms, and what they are called.
    x_scale
        By arm: what one step counts on the x axis, such as its seconds.
    """
    from switch_np.experiments.results import curve

    looks, there = arm_looks(labels), set(curves["arm"].tolist())
    for arm, label in labels.items():
        if arm not in there:
            continue
        steps, values = curve(curves, arm, column)
        x = steps * (1 if x_scale is None else x_scale[arm])
        color, dashes = looks[arm]
        ax.plot(x, values.mean(axis=0), color=color, linestyle=dashes, label=label)
        ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15,
                        linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, **axes)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return ax
