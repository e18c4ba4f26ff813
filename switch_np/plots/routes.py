"""Pictures of one batch: who goes where, into which slot, and how even that is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from switch_np.plots.canvas import (
    Axes, expert_colors, number, readable_on, write, write_numbers)
from switch_np.switch.plan import Plan

_PAPER = dict(facecolor="white", edgecolor="none", pad=0.8)


def routing(ax: Axes, expert_TK: np.ndarray, gates_TK: np.ndarray, kept_TK: np.ndarray,
            num_experts: int) -> Axes:
    """Draw tokens on the left, experts on the right, and a line per choice, as wide as its gate.

    A dropped choice is a dashed grey line that ends in a cross; a token with no other is hatched.
    """
    colors, tokens = expert_colors(num_experts), len(expert_TK)
    heights = -(np.arange(num_experts) + 0.5) * tokens / num_experts + 0.5
    for (t, k), e in np.ndenumerate(expert_TK):
        gate, kept = float(gates_TK[t, k]), bool(kept_TK[t, k])
        look: dict[str, Any] = dict(color="#777777", linewidth=1.5, linestyle=(0, (4, 3)))
        if kept:
            look = dict(color=colors[e], linewidth=1 + 7 * gate, alpha=0.4 + 0.6 * gate)
        ax.plot([0, 1], [-t, heights[e]], zorder=1, **look)
        at = 0.1 + 0.09 * k
        write(ax, at, -t + at * (heights[e] + t), number(gate, ".2f"), fontsize=9, bbox=_PAPER)
        if not kept:
            write(ax, 0.86, -t + 0.86 * (heights[e] + t), "×", fontsize=18, color="#333333")
    for t in range(tokens):
        hatch = None if kept_TK[t].any() else "//////"
        ax.scatter(0, -t, 520, "white", marker="s", edgecolor="black", hatch=hatch, zorder=2)
        write(ax, 0, -t, f"t{t}", zorder=3, bbox=_PAPER)
    for e, color in enumerate(colors):
        ax.scatter(1, heights[e], 1500, [color], edgecolor="black", zorder=2)
        write(ax, 1, heights[e], f"expert\n{e}", zorder=3, fontsize=9, color=readable_on(color))
    ax.set(xlim=(-0.1, 1.15), ylim=(0.6 - tokens, 0.6))
    ax.set_axis_off()
    return ax


def buffers(ax: Axes, plan: Plan, names: Sequence[str] | None = None) -> Axes:
    """Draw the slots of every expert: filled ones in its colour, empty ones dotted.

    The line is the capacity, and the hatched choices beyond it are dropped. If a group has fewer
    tokens than the capacity, the slots that none can fill are left out, and so is the line. `names`
    are the tokens' (default: t0, t1, ...). The plan must be without padding.
    """
    from matplotlib.patches import Rectangle

    groups, experts = plan.load.shape
    room = min(plan.capacity, len(plan.group) // max(groups, 1))
    colors, width = expert_colors(experts), max(room, int(plan.load.max(initial=0)))
    for row, (e, g) in enumerate(np.ndindex(experts, groups)):
        choice, token = np.nonzero((plan.expert == e).T & (plan.group == g))
        queue = token[np.argsort(~plan.kept[token, choice], kind="stable")]
        for c in range(max(room, len(queue))):
            full, past = c < len(queue), c >= plan.capacity
            ax.add_patch(Rectangle(
                (c, -row - 0.8), 0.94, 0.8, edgecolor="black",
                facecolor=colors[e] if full else "white", linestyle="--" if past else "-",
                hatch="//////" if past else None if full else "..."))
            if full:
                name = names[queue[c]] if names else f"t{queue[c]}"
                write(ax, c + 0.47, -row - 0.4, name, fontsize=9, bbox=_PAPER)
        ax.text(-0.1, -row - 0.4, f"expert {e}" + f", group {g}" * (groups > 1), ha="right",
                va="center")
    if room == plan.capacity:
        ax.axvline(room - 0.03, color="black", linewidth=3)
    ax.set(xticks=np.arange(room) + 0.47, xticklabels=np.arange(room), xlim=(-0.9, max(width, 3)),
           xlabel="slot" + f" of {plan.capacity}" * (room < plan.capacity), yticks=[],
           ylim=(-experts * groups, 0.15))
    ax.spines[:].set_visible(False)
    return ax


def load_bars(ax: Axes, load_E: np.ndarray, capacity: float | None = None,
              expected_E: np.ndarray | None = None) -> Axes:
    """Draw tokens per expert as bars, hatched beyond the capacity, which is a line.

    `expected_E`, drawn as diamonds, is the sum of each expert's probabilities: tokens times P.
    """
    colors, experts = expert_colors(len(load_E)), np.arange(len(load_E))
    kept_E = load_E if capacity is None else np.minimum(load_E, capacity)
    ax.bar(experts, kept_E, color=colors, edgecolor="black", label="tokens that chose it")
    if capacity is not None:
        ax.bar(experts, load_E - kept_E, bottom=kept_E, color=colors, edgecolor="black",
               hatch="//////", label="of these dropped")
        ax.axhline(capacity, color="black", linewidth=2, label=f"capacity {capacity:g}")
    if expected_E is not None:
        ax.plot(experts, expected_E, "D", color="black", markerfacecolor="white", markersize=9,
                label="sum of its probabilities")
    ax.set(xlabel="expert", ylabel="tokens", xticks=experts,
           ylim=(0, 1.45 * max(float(load_E.max()), 1)))
    ax.legend(loc="upper right", fontsize=9)
    return ax


def number_grid(ax: Axes, values: np.ndarray, rows: str, columns: str, *, signed: bool = False,
                digits: int = 2, highest: float = 1.0) -> Axes:
    """Draw a matrix as a map with numbers, shaded from 0 to `highest`, or signed around 0.

    `rows` and `columns` name the axes.
    """
    top = float(np.abs(values).max(initial=0)) or 1.0
    shade = ax.imshow(values, cmap="RdBu_r" if signed else "Greys", vmin=-top if signed else 0,
                      vmax=top if signed else 2 * highest, aspect="auto")
    colors = shade.cmap(shade.norm(values))[..., :3]
    dark = np.apply_along_axis(readable_on, -1, colors) == "white"
    write_numbers(ax, values, f"{'+' if signed else ''}.{digits}f", dark)
    height, width = values.shape
    ax.set(xlabel=columns, ylabel=rows, xticks=range(width), yticks=range(height))
    return ax


def token_plane(ax: Axes, x_TD: np.ndarray, w_router: np.ndarray, expert_T: np.ndarray,
                moved_TD: np.ndarray | None = None) -> Axes:
    """Draw tokens of two features as points, each region in the colour of its preferred expert.

    `moved_TD` adds an arrow to each token's new position; a token that stays is hatched.
    """
    colors = expert_colors(w_router.shape[1])
    ends_TD = x_TD if moved_TD is None else moved_TD
    reach = 1.25 * float(np.abs(np.concatenate([x_TD, ends_TD])).max())
    axis = np.linspace(-reach, reach, 300)
    best = (np.stack(np.meshgrid(axis, axis), axis=-1) @ w_router).argmax(axis=-1)
    ax.imshow(np.array(colors)[best], alpha=0.3, origin="lower", aspect="auto",
              extent=(-reach, reach, -reach, reach))
    for t, ((x, y), end) in enumerate(zip(x_TD, ends_TD)):
        stays = moved_TD is not None and (x, y) == tuple(end)
        if (x, y) != tuple(end):
            ax.annotate("", end, (x, y), arrowprops=dict(arrowstyle="->", lw=1.5, shrinkA=10))
        ax.scatter(x, y, s=420, c=[colors[int(expert_T[t])]], edgecolor="black",
                   hatch="//////" if stays else None, zorder=2)
        write(ax, x, y, f"t{t}", zorder=3, fontsize=9, bbox=_PAPER if stays else None)
    ax.set(xlabel="first number of x", ylabel="second number of x")
    return ax


def balance_surface(ax: Axes, points: Mapping[str, tuple[float, float]]) -> Axes:
    """Draw the load-balancing loss of two experts over f₀ and P₀, and points (f₀, P₀) by label.

    Grey is out of reach: a token chooses the expert to which it gives at least 1/2, so
    f₀ / 2 ≤ P₀ ≤ (1 + f₀) / 2.
    """
    from matplotlib.colors import TwoSlopeNorm

    f, p = np.meshgrid(np.linspace(0, 1, 201), np.linspace(0, 1, 201))
    loss = 2 * (f * p + (1 - f) * (1 - p))
    levels = np.append(np.linspace(0.85, 1, 7), np.linspace(1.1, 2, 10))
    field = ax.contourf(f, p, loss, levels=levels, cmap="PuOr_r", extend="min",
                        norm=TwoSlopeNorm(1, 0.85, 2))
    ax.contour(f, p, loss, levels=[1.0], colors="black", linewidths=1)
    ax.fill_between([0, 1], 0, [0, 0.5], color="#BBBBBB", label="out of reach")
    ax.fill_between([0, 1], [0.5, 1], 1, color="#BBBBBB")
    for (label, point), mark in zip(points.items(), "oDs^v"):
        ax.plot(*point, mark, color="black", markerfacecolor="white", markersize=9, label=label,
                clip_on=False)
    ax.set(xlabel="f₀, share of the tokens that chose expert 0",
           ylabel="P₀, mean probability of expert 0", xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="upper left", fontsize=8)
    ax.figure.colorbar(field, ax=ax, label="loss (black line: 1)", ticks=[0.875, 1, 1.5, 2])
    return ax
