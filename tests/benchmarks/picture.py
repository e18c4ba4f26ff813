"""The picture: time against the limit, and how it grows with tokens and with experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers import BARE, OURS
from benchmarks.words import comparison, label
from switch_np import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
MARKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))
LIMIT = 1.25


def draw(tables: Mapping[str, Rows]) -> Figure | None:
    """Return a figure with a panel for each table that is there; None without any."""
    panels = [(PANELS[name], rows) for name, rows in tables.items() if rows and name in PANELS]
    if not panels:
        return None
    columns = min(len(panels), 2)
    rows_of = -(-len(panels) // columns)
    figure, axes = plots.figure(rows_of, columns, size=(8 * columns, 5.2 * rows_of))
    for ax in axes.ravel()[len(panels):]:
        ax.set_axis_off()
    for ax, (panel, rows) in zip(axes.ravel(), panels):
        panel(ax, rows)
    return figure


def against_limit(what: str) -> Callable[[Axes, Rows], Axes]:
    """Return the panel of a comparison: a line per subject, a mark per size, the limit at 1."""

    def panel(ax: Axes, rows: Rows) -> Axes:
        rows = [row for row in rows if row["subject"] != BARE and np.isfinite(row["to_bare"])]
        names = list(dict.fromkeys(label(row) for row in rows))
        cases = list(dict.fromkeys(row["case"] for row in rows))
        for n, (case, (color, mark)) in enumerate(zip(cases, MARKS)):
            mine = [row for row in rows if row["case"] == case]
            place = np.array([names.index(label(row)) for row in mine]) + 0.16 * (n - 1)
            middle, low, high = (np.array([row[name] for row in mine])
                                 for name in ("to_bare", "low", "high"))
            ax.errorbar(middle, place, xerr=np.stack([middle - low, high - middle]), fmt=mark,
                        color=color, markersize=5, elinewidth=1, label=case)
        ax.axvline(1, color="black", linewidth=1, zorder=0)
        ax.axvline(LIMIT, color="black", linewidth=1, linestyle=":", zorder=0)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.grid(axis="y", which="major", color="#eeeeee", zorder=-1)
        ax.set_xscale("log")
        ends = [row[name] for row in rows for name in ("low", "high")]
        ticks = [tick for tick in (0.5, 1, 1.5, 2, 3, 4, 6, 10, 15, 25, 50)
                 if tick == 1 or 0.9 * min(ends) < tick < 1.1 * max(ends)]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        ax.tick_params(axis="x", which="minor", length=0, labelbottom=False)
        ax.set_xlabel("time / bare matrix products in the same round (median, quartiles; "
                      f"dotted: {LIMIT:g})")
        ax.set_xlim(left=0.9 * min(1, *(row["low"] for row in rows)))
        below(ax, len(cases))
        ax.set_title(f"{what}: {comparison(rows)}", fontsize=10)
        return ax

    return panel


def below(ax: Axes, columns: int) -> None:
    """Put the legend below the axis' words, where it hides nothing."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, fontsize=8,
              frameon=False)


def tokens(ax: Axes, rows: Rows) -> Axes:
    """Draw time by T, beside the bare products and a straight line through the largest."""
    count, ours, bare = (np.array([row[name] for row in rows])
                         for name in ("tokens", "milliseconds", "bare"))
    ax.plot(count, ours, "o-", color=BLUE, label=OURS)
    ax.plot(count, bare, "s--", color=ORANGE, label=BARE)
    ax.plot(count, ours[-1] * count / count[-1], ":", color="black", label="linear in T")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(count, [f"{int(n):,}" for n in count])
    ax.set(xlabel="tokens T (d = 128, 8 experts)", ylabel="milliseconds, forward and backward")
    below(ax, 3)
    ax.set_title(f"Tokens: {count[-1] / count[0]:.0f} times as many take "
                 f"{ours[-1] / ours[0]:.0f} times the time", fontsize=10)
    return ax


def experts(ax: Axes, rows: Rows) -> Axes:
    """Draw time by E: the layer, its bare products, its routing; the optimizer apart."""
    count = np.array([row["experts"] for row in rows])
    for name, words, form, color in (("milliseconds", OURS, "o-", BLUE),
                                     ("bare", BARE, "s--", ORANGE),
                                     ("routing", "of it, all but experts and checks", "^-", GREEN),
                                     ("optimizer", "AdamW, not in the layer", "x:", GREY)):
        ax.plot(count, [row[name] for row in rows], form, color=color, label=words)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(count, [f"{int(n)}" for n in count])
    ax.set(xlabel="experts E (d = 128, T = 2,048; operations per token the same)",
           ylabel="milliseconds, forward and backward")
    below(ax, 2)
    up_to = max((row for row in rows if row["experts"] <= 64), key=lambda row: row["experts"])
    ax.set_title(f"Experts: from {int(count[0])} to {int(up_to['experts'])} routing grows by "
                 f"{100 * up_to['growth']:.0f} % of the layer's time,\nand the bare products are "
                 f"{up_to['bare_growth']:.2f} times as slow", fontsize=10)
    return ax


PANELS = {"layer": against_limit("Layer"), "step": against_limit("Training step"),
          "tokens": tokens, "experts": experts}
