"""Pictures of gradients, right and wrong, and of tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from switch_np.plots.canvas import Axes, expert_colors, write_numbers


def gradient_map(ax: Axes, values: np.ndarray, title: str, rows: Sequence[str],
                 columns: Sequence[str], *, limit: float | None = None, hatched: Sequence[int] = (),
                 row_experts: Sequence[int] = (), column_experts: Sequence[int] = ()) -> Axes:
    """Draw gradients: red above zero, blue below, with a number in each cell.

    `rows` and `columns` label the matrix, on the colours of `row_experts` and `column_experts`;
    `hatched` rows are dropped tokens or empty slots. The colours end at `limit` (default: the
    largest magnitude), which maps to be compared share.
    """
    from matplotlib.patches import Rectangle

    limit = limit or float(np.abs(values).max()) or 1.0
    ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for row in hatched:
        ax.add_patch(Rectangle((-0.5, row - 0.5), values.shape[1], 1, facecolor="none",
                               hatch="////", edgecolor="#aaaaaa", linewidth=0))
    write_numbers(ax, values, "+.2f", np.abs(values) > 0.6 * limit, fontsize=8)
    _label(ax, title, rows, columns, row_experts, column_experts)
    ax.set_xlabel(f"colours to ±{limit:.2g}", fontsize=8)
    return ax


def heat_table(ax: Axes, shares: np.ndarray, title: str, rows: Sequence[str],
               columns: Sequence[str], row_experts: Sequence[int] = ()) -> Axes:
    """Draw each row's shares in per cent, the larger the darker.

    `row_experts` puts the labels of the first rows on their experts' colours.
    """
    import matplotlib

    ax.imshow(shares, cmap=matplotlib.colormaps["Blues"].resampled(10), vmin=0, vmax=1,
              aspect="auto")
    write_numbers(ax, 100 * shares, ".0f", shares > 0.6, fontsize=8)
    _label(ax, title, rows, columns, row_experts)
    ax.set_xlabel("% of the row", fontsize=8)
    return ax


def right_and_wrong(axes: Sequence[Axes] | np.ndarray, right: np.ndarray, wrong: np.ndarray,
                    name: str, rows: Sequence[str], columns: Sequence[str], **labels: Any
                    ) -> Sequence[Axes] | np.ndarray:
    """Draw a right matrix, a wrong one and the error on three Axes with one scale.

    `labels` go to `gradient_map`.
    """
    limit = float(np.nanmax(np.abs([right, wrong]))) or 1.0
    titles = f"{name}, right", f"{name}, wrong", "the error: wrong − right"
    for ax, values, title in zip(axes, (right, wrong, wrong - right), titles):
        gradient_map(ax, values, title, rows, columns, limit=limit, **labels)
    return axes


def escapes(ax: Axes, through: np.ndarray, title: str, bugs: Sequence[str],
            tests: Sequence[str]) -> Axes:
    """Draw which bug (row) gets past which test (column), and how many get past each test."""
    from matplotlib.colors import ListedColormap

    ax.imshow(through, cmap=ListedColormap(["#FFFFFF", "#D55E00"]), vmin=0, vmax=1, aspect="auto")
    row, column = np.nonzero(through)
    ax.plot(column, row, "o", color="black", markersize=2.5)
    counted = [f"{test}: {count}" for test, count in zip(tests, through.sum(axis=0))]
    ax.set_yticks(range(len(bugs)), bugs, fontsize=7)
    ax.set_xticks(range(len(tests)), counted, fontsize=8, rotation=55, ha="left",
                  rotation_mode="anchor")
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(np.arange(0.5, len(tests)), minor=True)
    ax.set_yticks(np.arange(0.5, len(bugs)), minor=True)
    ax.grid(which="minor", color="#dddddd", linewidth=0.5)
    ax.tick_params(which="minor", length=0, top=False)
    ax.set_title(title, fontsize=10)
    return ax


def _label(ax: Axes, title: str, rows: Sequence[str], columns: Sequence[str],
           row_experts: Sequence[int], column_experts: Sequence[int] = ()) -> None:
    """Name a matrix, its rows and columns, on the experts' colours."""
    ax.set_title(title, fontsize=10)
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.set_xticks(range(len(columns)), columns, fontsize=8)
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for label, e in [*zip(ax.get_yticklabels(), row_experts),
                     *zip(ax.get_xticklabels(), column_experts)]:
        behind = expert_colors(e + 1)[e]
        label.set_bbox({"facecolor": behind, "edgecolor": "none", "pad": 1.5})
        label.set_color("white" if sum(behind) < 1 else "black")
