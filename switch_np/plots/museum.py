"""Pictures of bugs: a right and a wrong gradient side by side, and which test lets which bug by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_np.plots.gradients import gradient_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def right_and_wrong(axes: Sequence[Axes], right: np.ndarray, wrong: np.ndarray, name: str,
                    rows: Sequence[str], columns: Sequence[str], **labels: Any) -> Sequence[Axes]:
    """Draw a right matrix, a wrong one and the error, on three Axes with one scale.

    Errors below 1e-12 of the scale, rounding, are left blank like exact zeros. `labels` go to
    `gradient_map`.
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
    """Draw which bug (row) gets past which test (column): a filled cell and a dot where it does.

    Each test's name has the number of its escapes behind it.
    """
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
