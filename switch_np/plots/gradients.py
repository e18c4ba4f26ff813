"""Pictures of gradients, right and wrong, and of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_np.plots.canvas import expert_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gradient_map(ax: Axes, values: np.ndarray, title: str, rows: Sequence[str],
                 columns: Sequence[str], *, limit: float | None = None,
                 row_experts: Sequence[int] | None = None,
                 column_experts: Sequence[int] | None = None,
                 hatched: Sequence[int] = ()) -> Axes:
    """Draw gradients: red above zero, blue below, with a number in each cell but exact zeros.

    Parameters
    ----------
    ax, values, title, rows, columns
        The matrix (rows, columns), what it shows, and a label for each row and column.
    limit
        Where the colours end on both sides (default: the largest magnitude). Give maps that are to
        be compared the same.
    row_experts, column_experts
        The expert of each row or column, on whose colour its label stands.
    hatched
        Rows to hatch: dropped tokens, empty slots.
    """
    from matplotlib.patches import Rectangle

    limit = limit or float(np.abs(values).max()) or 1.0
    ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if value != 0:
            ax.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=8,
                    color="white" if abs(value) > 0.6 * limit else "black")
    for row in hatched:
        ax.add_patch(Rectangle((-0.5, row - 0.5), values.shape[1], 1, facecolor="none",
                               hatch="////", edgecolor="#aaaaaa", linewidth=0))
    _label_cells(ax, rows, columns, row_experts, column_experts)
    ax.set_title(title, fontsize=10)
    return ax


def heat_table(ax: Axes, shares: np.ndarray, title: str, rows: Sequence[str],
               columns: Sequence[str], row_experts: Sequence[int] | None = None) -> Axes:
    """Draw each row's shares in per cent, the larger the darker.

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


def right_and_wrong(axes: Sequence[Axes], right: np.ndarray, wrong: np.ndarray, name: str,
                    rows: Sequence[str], columns: Sequence[str], **labels: Any) -> Sequence[Axes]:
    """Draw a right matrix, a wrong one and the error on three Axes with one scale.

    Rounding errors, below 1e-12 of the scale, are left blank. `labels` go to `gradient_map`.
    """
    limit = float(np.nanmax(np.abs([right, wrong]))) or 1.0
    error = wrong - right
    error[np.abs(error) < 1e-12 * limit] = 0
    for ax, values, title in zip(axes, (right, wrong, error), (
            f"{name}, right", f"{name}, wrong", "the error: wrong − right")):
        gradient_map(ax, values, title, rows, columns, limit=limit, **labels)
    return axes


def escapes(ax: Axes, through: np.ndarray, title: str, bugs: Sequence[str],
            tests: Sequence[str]) -> Axes:
    """Draw which bug (row) gets past which test (column), and how many get past each test."""
    from matplotlib.colors import ListedColormap

    ax.imshow(through, cmap=ListedColormap(["#FFFFFF", "#D55E00"]), vmin=0, vmax=1, aspect="auto")
    row, column = np.nonzero(through)
    ax.plot(column, row, "o", color="black", markersize=2.5)
    ax.set_yticks(range(len(bugs)), bugs, fontsize=7)
    ax.set_xticks(range(len(tests)), [f"{test}: {count}" for test, count in
                                      zip(tests, through.sum(axis=0))],
                  fontsize=8, rotation=55, ha="left", rotation_mode="anchor")
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(np.arange(0.5, len(tests)), minor=True)
    ax.set_yticks(np.arange(0.5, len(bugs)), minor=True)
    ax.grid(which="minor", color="#dddddd", linewidth=0.5)
    ax.tick_params(which="minor", length=0, top=False)
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
