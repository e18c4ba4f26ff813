"""Pictures of precision: the bits of numbers, and bars to compare sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIELDS = {"sign": (0, 1, "#CC79A7"), "exponent": (1, 9, "#56B4E9"),
         "digits that bfloat16 keeps": (9, 16, "#009E73"),
         "digits that it loses": (16, 32, "#FFFFFF")}


def float_bits(ax: Axes, numbers: Sequence[float], labels: Sequence[str]) -> Axes:
    """Draw the 32 bits of each number in float32; those that bfloat16 cuts off are hatched."""
    from matplotlib.patches import Patch, Rectangle

    bits = np.array(numbers, np.float32).view(np.uint32)
    for row, pattern in enumerate(bits):
        for first, end, color in FIELDS.values():
            for bit in range(first, end):
                ax.add_patch(Rectangle((bit, -row - 0.8), 1, 0.8, facecolor=color,
                                       edgecolor="#777777", linewidth=0.5,
                                       hatch="////" if first == 16 else None))
                ax.text(bit + 0.5, -row - 0.4, str(int(pattern) >> (31 - bit) & 1), ha="center",
                        va="center", fontsize=8,
                        bbox=dict(facecolor="white", edgecolor="none", pad=0.5)
                        if first == 16 else None)
    ax.set_yticks(-np.arange(len(labels)) - 0.4, labels)
    ax.set(xlim=(0, 32), ylim=(-len(labels), 0.1), xticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.legend(handles=[Patch(facecolor=color, edgecolor="#777777", label=name,
                             hatch="////" if first == 16 else None)
                       for name, (first, _, color) in FIELDS.items()],
              loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, fontsize=8, frameon=False)
    return ax


def bars(ax: Axes, values: Mapping[str, float], xlabel: str) -> Axes:
    """Draw a labelled horizontal bar per value, with the number at its end."""
    drawn = ax.barh(range(len(values)), list(values.values()), color="#0072B2", height=0.6)
    ax.bar_label(drawn, [f"{value:.3g}" for value in values.values()], padding=4, fontsize=9)
    ax.set_yticks(range(len(values)), values)
    ax.set(xlabel=xlabel, ylim=(len(values) - 0.4, -0.6), xlim=(0, 1.12 * max(values.values())))
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    return ax
