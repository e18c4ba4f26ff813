"""Pictures of precision: the bits of numbers, errors against limits, and bars to compare sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from switch_np.plots.canvas import Axes, write

FIELDS = {"sign": (0, 1, "#CC79A7"), "exponent": (1, 9, "#56B4E9"),
          "digits that bfloat16 keeps": (9, 16, "#009E73"),
          "digits that it loses": (16, 32, "#FFFFFF")}
_PAPER = dict(facecolor="white", edgecolor="none", pad=0.5)


def float_bits(ax: Axes, numbers: Sequence[float], labels: Sequence[str]) -> Axes:
    """Draw the 32 bits of each number in float32; those that bfloat16 cuts off are hatched."""
    from matplotlib.patches import Patch, Rectangle

    looks: dict[str, dict[str, Any]] = {
        name: dict(facecolor=color, edgecolor="#777777", hatch="////" if first == 16 else None)
        for name, (first, _, color) in FIELDS.items()}
    for row, pattern in enumerate(np.array(numbers, np.float32).view(np.uint32)):
        for name, (first, end, _) in FIELDS.items():
            for bit in range(first, end):
                ax.add_patch(Rectangle((bit, -row - 0.8), 1, 0.8, linewidth=0.5, **looks[name]))
                write(ax, bit + 0.5, -row - 0.4, str(int(pattern) >> (31 - bit) & 1), fontsize=8,
                      bbox=_PAPER if first == 16 else None)
    ax.set(yticks=-np.arange(len(labels)) - 0.4, yticklabels=labels, ylim=(-len(labels), 0.1),
           xlim=(-0.05, 32.05), xticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.legend(handles=[Patch(label=name, **look) for name, look in looks.items()],
              loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, fontsize=8, frameon=False)
    return ax


def bars(ax: Axes, values: Mapping[str, float], xlabel: str) -> Axes:
    """Draw a labelled horizontal bar per value, with the number at its end."""
    drawn = ax.barh(range(len(values)), list(values.values()), color="#0072B2", height=0.6)
    ax.bar_label(drawn, [f"{value:.3g}" for value in values.values()], padding=4, fontsize=9)
    ax.set(yticks=range(len(values)), yticklabels=values, ylim=(len(values) - 0.4, -0.6),
           xlabel=xlabel, xlim=(0, 1.12 * max(values.values())))
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    return ax


def strips(ax: Axes, rows: Mapping[str, np.ndarray], xlabel: str, limits: Mapping[str, float],
           lowest: float, *, alarm: bool = True) -> Axes:
    """Draw a strip of dots per row on a logarithmic axis, and a vertical line per limit.

    The rows are non-negative numbers of any shape. Beyond the first limit they are red crosses,
    unless `alarm` is False: then large numbers are no fault. The axis begins at `lowest`, where
    smaller numbers, such as zeros, are drawn.
    """
    rng, first = np.random.default_rng(0), next(iter(limits.values()))
    for row, numbers in enumerate(rows.values()):
        numbers = np.maximum(np.ravel(numbers), lowest)
        height = row + rng.uniform(-0.3, 0.3, numbers.shape)
        beyond = alarm & (numbers > first)
        for chosen, color, mark in ((~beyond, "#555555", "."), (beyond, "#D55E00", "x")):
            ax.plot(numbers[chosen], height[chosen], mark, color=color, markersize=4, zorder=1)
    for (label, limit), dashes in zip(limits.items(), ("-", "--", ":")):
        ax.axvline(limit, color="#0072B2", linestyle=dashes, label=label, zorder=2)
    ax.set(xscale="log", xlabel=xlabel, xlim=(0.7 * lowest, None), yticks=range(len(rows)),
           yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8, frameon=False,
              ncols=len(limits))
    return ax
