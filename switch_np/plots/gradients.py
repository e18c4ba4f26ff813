"""Pictures of gradients and of tables of shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from switch_np.plots.canvas import expert_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gradient_map(ax: Axes, values: np.ndarray, title: str, rows: Sequence[str],
                 columns: Sequence[str], *, limit: float | None = None,
                 row_experts: Sequence[int] | None = None,
                 column_experts: Sequence[int] | None = None,
                 hatched: Sequence[int] = ()) -> Axes:
    """Draw a matrix of gradients: red above zero, blue below, and a number in each cell.

    A cell without a number is exactly 0.

    Parameters
    ----------
    ax, values, title
        The matrix (rows, columns), and what it shows.
    rows, columns
        A label for each.
    limit
        Where the colours end on both sides; default: the largest size of a value. Maps that shall
        be compared need the same.
    row_experts, column_experts
        The expert of each row or column: its label stands on that expert's colour.
    hatched
        Rows to hatch: dropped tokens, empty slots.
    """
    limit = limit or float(np.abs(values).max()) or 1.0
    ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if value != 0:
            ax.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=8,
                    color="white" if abs(value) > 0.6 * limit else "black")
    _hatch_rows(ax, hatched, values.shape[1])
    _label_cells(ax, rows, columns, row_experts, column_experts)
    ax.set_title(title, fontsize=10)
    return ax


def heat_table(ax: Axes, shares: np.ndarray, title: str, rows: Sequence[str],
               columns: Sequence[str], row_experts: Sequence[int] | None = None) -> Axes:
    """Draw a table of shares of each row, in per cent, the darker the larger.

    `row_experts` puts the labels of the first rows on their experts' colours.
    """
    import matplotlib

    ax.imshow(shares, cmap=matplotlib.colormaps["Blues"].resampled(10), vmin=0, vmax=1,
              aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8,
                color="white" if share > 0.6 else "black")
    _label_cells(ax, rows, columns, row_experts)
    ax.set_xlabel("% of the row", fontsize=8)
    ax.set_title(title, fontsize=10)
    return ax


def _label_cells(ax: Axes, rows: Sequence[str], columns: Sequence[str],
                 row_experts: Sequence[int] | None = None,
                 column_experts: Sequence[int] | None = None) -> None:
    """Name the rows at the left, the columns at the top of a matrix, on the experts' colours."""
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.set_xticks(range(len(columns)), columns, fontsize=8)
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for labels, experts in ((ax.get_yticklabels(), row_experts),
                            (ax.get_xticklabels(), column_experts)):
        for label, e in zip(labels, () if experts is None else experts):
            color = expert_colors(e + 1)[e]
            label.set_bbox({"facecolor": color, "edgecolor": "none", "pad": 1.5})
            label.set_color("white" if sum(color) < 1 else "black")


def _hatch_rows(ax: Axes, rows: Sequence[int], width: int) -> None:
    from matplotlib.patches import Rectangle

    for row in rows:
        ax.add_patch(Rectangle((-0.5, row - 0.5), width, 1, facecolor="none", hatch="////",
                               edgecolor="#aaaaaa", linewidth=0))
