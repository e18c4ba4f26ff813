"""Pictures of experiments: each arm's result with each seed, and the curves that led there.

A dot is a seed, a bar the mean over the seeds, a whisker or a band its 95 % interval.
"""

from collections.abc import Mapping
from itertools import cycle
from textwrap import wrap
from typing import Any

import numpy as np

from switch_np.experiments.results import curve
from switch_np.experiments.statistics import Effect, interval, measure
from switch_np.plots.canvas import Axes

_LOOKS = [("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"),
          ("#E69F00", "-"), ("#000000", "--"), ("#56B4E9", "-."), ("#999999", "-"),
          ("#8A6D00", ":"), ("#004D40", "--")]

Looks = Mapping[str, tuple[str, str]]       # by arm: colour and dashes


def finding(ax: Axes, text: str, width: int = 72) -> Axes:
    """Set the title, which says what was found, in lines of at most `width` letters."""
    ax.set_title("\n".join(wrap(text, width)), fontsize=10)
    return ax


def seeds_by_arm(ax: Axes, values: Mapping[str, np.ndarray], xlabel: str,
                 paper: Mapping[str, str] | None = None, paper_label: str = "the paper", *,
                 labels: Mapping[str, str] | None = None, looks: Looks | None = None) -> Axes:
    """Draw a row per arm: dots, bar and whisker, and the paper's number on the right.

    Lower is better: the title says which arm is best, and how far it is ahead of the next. NaN, a
    run that diverged, gets no dot and is counted in the arm's label.

    By arm, `values` have a number per seed, `paper` the paper's number, which is a `paper_label`,
    `labels` the arm's label, and `looks` its colour and dashes.
    """
    labels = labels or {arm: arm for arm in values}
    looks = looks or dict(zip(labels, cycle(_LOOKS)))
    names = []
    for row, (arm, numbers) in enumerate(values.items()):
        finite, color = numbers[np.isfinite(numbers)], looks[arm][0]
        diverged = len(numbers) - len(finite)
        names.append(labels[arm] + f" ({diverged} of {len(numbers)} diverged)" * (diverged > 0))
        ax.plot(finite, np.full(len(finite), row), "o", color=color, alpha=0.6, markersize=7,
                markeredgewidth=0)
        if len(finite):
            mean = finite.mean()
            ax.plot([mean, mean], [row - 0.32, row + 0.32], color=color, linewidth=3)
            ax.errorbar(mean, row, xerr=_half(finite), color=color, capsize=4, linewidth=1.2)
            ax.annotate(f"{mean:.3f}", (mean, row - 0.34), ha="center", va="bottom", fontsize=8)
    rows = range(len(names))
    ax.set(xlabel=f"{xlabel}\ndot: a seed; bar: mean; whisker: its 95 % interval", yticks=rows,
           yticklabels=names, ylim=(len(names) - 0.5, -0.8))
    ax.margins(x=0.12)
    if paper is not None:
        right = ax.secondary_yaxis("right")
        right.set_yticks(rows, [paper.get(arm, "") for arm in values], fontsize=9)
        right.set_ylabel(paper_label, fontsize=9)
        right.tick_params(length=0)
    ax.grid(axis="x", alpha=0.3)
    return finding(ax, _best(values, labels))


def _best(values: Mapping[str, np.ndarray], labels: Mapping[str, str]) -> str:
    """Say which arm has the best mean, and how far it is ahead of the next, seed by seed."""
    ranked = sorted((arm for arm, numbers in values.items() if np.isfinite(numbers).all()),
                    key=lambda arm: values[arm].mean())
    if len(ranked) < 2:
        return ""
    first, second = (values[arm] for arm in ranked[:2])
    names = [labels[arm] for arm in ranked[:2]]
    if len(first) != len(second) or len(first) < 2:
        return f"best mean: {names[0]}, then {names[1]}"
    effect = measure(second - first)
    none = "" if effect.grade == "holds" else ", which is no finding"
    return (f"best mean: {names[0]}, {effect.mean:.3f} ± {effect.half:.3f} ahead of {names[1]}"
            + none)


def effects(ax: Axes, found: Mapping[str, Effect], xlabel: str) -> Axes:
    """Draw a row per claim: the mean difference, its 95 % interval, and the grade on the right.

    An effect that holds lies right of the line at 0, or at minus the margin that its claim allows.
    """
    looks = {"holds": "#0072B2", "contradicted": "#D55E00", "cannot tell": "#777777"}
    for row, effect in enumerate(found.values()):
        color = looks[effect.grade]
        ax.errorbar(effect.mean, row, xerr=effect.half, color=color, capsize=4, marker="|",
                    markersize=16, markeredgewidth=3)
        if effect.margin:
            ax.plot([-effect.margin] * 2, [row - 0.4, row + 0.4], ":", color="#555555")
    ax.axvline(0, color="#555555", linewidth=1)
    samples = " and ".join(dict.fromkeys(effect.samples for effect in found.values()))
    ax.set(xlabel=f"{xlabel}\nbar: mean over the {samples}; whisker: its 95 % interval",
           yticks=range(len(found)), ylim=(len(found) - 0.5, -0.5))
    ax.set_yticklabels(["\n".join(wrap(text, 44)) for text in found], fontsize=9)
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(len(found)), [
        f"{effect.mean:+.3f} ± {effect.half:.3f}\n{effect.grade}" for effect in found.values()],
        fontsize=9)
    right.tick_params(length=0)
    ax.grid(axis="x", alpha=0.3)
    return ax


def _half(values: np.ndarray, axis: int = 0) -> Any:
    """Return half of the 95 % interval of the means over seeds; 0 for one seed."""
    count = values.shape[axis]
    return interval(count) * values.std(axis=axis, ddof=1) if count > 1 else 0 * values.sum(axis)


def curves_by_arm(ax: Axes, curves: Mapping[str, np.ndarray], labels: Mapping[str, str],
                  column: str = "bits_per_byte", ylabel: str = "held-out bits per byte", *,
                  xlabel: str = "step", x_scale: Mapping[str, float] | None = None,
                  looks: Looks | None = None, **axes: Any) -> Axes:
    """Draw each arm's mean over the seeds, in a band: its 95 % interval.

    `curves` is a table with the columns arm, seed, step and `column`. `labels` and `looks` have
    each arm's label (arms without one are left out), and its colour and dashes; `x_scale` the
    length of its step on the x axis, such as the time. `axes` go to `Axes.set`.
    """
    looks = looks or dict(zip(labels, cycle(_LOOKS)))
    for arm, label in labels.items():
        if arm not in curves["arm"]:
            continue
        steps, values = curve(curves, arm, column)
        x = steps * (1 if x_scale is None else x_scale[arm])
        color, dashes = looks[arm]
        mean, half = values.mean(axis=0), _half(values)
        ax.plot(x, mean, color=color, linestyle=dashes, label=label)
        ax.fill_between(x, mean - half, mean + half, color=color, alpha=0.12, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, **axes)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return ax


def series_by_arm(ax: Axes, series: Mapping[str, Mapping[str, float]], xlabel: str,
                  labels: Mapping[str, str]) -> Axes:
    """Draw a row per arm, with a mark for each series: one quantity, measured in several ways.

    `series` has a number per arm, by the series' name; the first is filled.
    """
    rows = {arm: row for row, arm in enumerate(labels)}
    looks = [("#0072B2", "s", "#0072B2"), ("#0072B2", "o", "white"), ("#D55E00", "x", "#D55E00"),
             ("#009E73", "^", "white")]
    for (name, values), (color, mark, face) in zip(series.items(), looks):
        ax.plot(list(values.values()), [rows[arm] for arm in values], mark, color=color,
                markerfacecolor=face, markersize=8, label=name, linestyle="none")
    ax.set(xlabel=xlabel, xlim=(0, None), yticks=range(len(labels)), yticklabels=labels.values(),
           ylim=(len(labels) - 0.5, -0.5))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower left")
    return ax


def ranges(ax: Axes, series: Mapping[str, Mapping[float, np.ndarray]], xlabel: str,
           ylabel: str, ticks: Mapping[float, str]) -> Axes:
    """Draw means over a logarithmic x axis, joined, with dots and whiskers.

    `series` has a number per seed, by name and by x, and each is drawn a little to the right of the
    one before it; `ticks` are the labels of the x axis, by x.
    """
    for n, ((name, points), (color, dashes)) in enumerate(zip(series.items(), _LOOKS)):
        means, halves = (np.array([reduce(numbers) for numbers in points.values()])
                         for reduce in (np.mean, _half))
        x = np.array(list(points)) * 1.05 ** n
        ax.errorbar(x, means, yerr=halves, color=color, linestyle=dashes, marker="os^D"[n % 4],
                    capsize=3, label=name)
        for place, numbers in zip(x, points.values()):
            ax.plot(np.full(len(numbers), place), numbers, ".", color=color, alpha=0.5,
                    markersize=4)
    _log_axis(ax, xlabel, ylabel, ticks)
    return ax


def trends(ax: Axes, series: Mapping[str, Mapping[Any, float]], xlabel: str, ylabel: str,
           ticks: Mapping[float, str]) -> Axes:
    """Draw one line per series over a logarithmic x axis; y begins at 0."""
    for (name, points), (color, dashes), mark in zip(series.items(), _LOOKS, "os^D"):
        ax.plot(list(points), list(points.values()), color=color, linestyle=dashes, marker=mark,
                label=name)
    _log_axis(ax, xlabel, ylabel, ticks)
    ax.legend(fontsize=8, loc="lower right")
    ax.set_ylim(0, 1.15 * max(max(points.values()) for points in series.values()))
    return ax


def _log_axis(ax: Axes, xlabel: str, ylabel: str, ticks: Mapping[float, str]) -> None:
    ax.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
