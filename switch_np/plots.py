"""Pictures: pure functions that take arrays and an Axes, and give the Axes back.

matplotlib is imported when the first picture is drawn, and nowhere else in the package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from switch_np.switch.plan import Plan

# Okabe and Ito's colours (2008), which colour-blind people can tell apart; grey replaces black.
_EIGHT = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4),
           **options: Any) -> tuple[Figure, Any]:
    """Return a figure of `size` inches, to be saved as PNG, and its Axes (rows, columns).

    As the last expression of a notebook's cell it shows itself, in 64 colours: so a notebook with
    ten pictures stays small.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _ipython_display_(self) -> None:
            from IPython.display import Image, display

            display(Image(_small_png(self)))

    made = Shown(figsize=size, layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False, **options)


def _small_png(drawn: Figure) -> bytes:
    """Return the picture as PNG of 64 colours, a quarter of the usual size."""
    from io import BytesIO

    from PIL import Image

    drawn.canvas.draw()
    picture = Image.fromarray(np.asarray(drawn.canvas.buffer_rgba())).convert("RGB")
    file = BytesIO()
    picture.quantize(64, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()


def expert_colors(num_experts: int) -> list[tuple[float, float, float]]:
    """Return one colour (red, green, blue) per expert, the same for expert e in every picture.

    Eight hues that anybody tells apart, then the same eight darker; more than sixteen experts
    share one continuous map.

    >>> [tuple(round(part, 2) for part in color) for color in expert_colors(2)]
    [(0.9, 0.62, 0.0), (0.34, 0.71, 0.91)]
    """
    if num_experts <= 2 * len(_EIGHT):
        hues = [tuple(int(name[i:i + 2], 16) / 255 for i in (1, 3, 5)) for name in _EIGHT]
        darker = [tuple(0.5 * part for part in hue) for hue in hues]
        return (hues + darker)[:num_experts]
    import matplotlib

    return [tuple(color[:3]) for color in matplotlib.colormaps["viridis"](
        np.linspace(0, 1, num_experts))]


def loss_curve(ax: Axes, steps: np.ndarray, bits: np.ndarray,
               levels: Mapping[str, float] | None = None) -> Axes:
    """Draw the training loss in bits per byte over steps: each step pale, a running mean bold.

    `levels` are horizontal lines with a label, such as a baseline.
    """
    width = max(len(bits) // 50, 10)
    ax.plot(steps, bits, color="#0072B2", alpha=0.25, linewidth=0.8)
    if len(bits) >= width:
        mean = np.convolve(bits, np.ones(width) / width, mode="valid")
        ax.plot(steps[width - 1:], mean, color="#0072B2", label=f"training (mean of {width} steps)")
    styles = [("#D55E00", "--"), ("#009E73", "-."), ("#000000", ":")]
    for (label, level), (color, style) in zip((levels or {}).items(), styles):
        ax.axhline(level, color=color, linestyle=style, label=f"{label}: {level:.2f}")
    ax.set(xlabel="step", ylabel="bits per byte")
    ax.legend()
    return ax


def expert_load(ax: Axes, steps: np.ndarray, share_SE: np.ndarray, name: str) -> Axes:
    """Draw each expert's share of the tokens over steps, as multiples of the fair share 1/E.

    White is the fair share, red above, blue below; the scale ends at four times the fair share.
    """
    from matplotlib.colors import TwoSlopeNorm

    fair = share_SE.shape[1] * share_SE
    mesh = ax.imshow(fair.T, aspect="auto", interpolation="nearest", cmap="RdBu_r",
                     norm=TwoSlopeNorm(1, 0, 4), origin="lower",
                     extent=(steps[0] - 0.5, steps[-1] + 0.5, -0.5, share_SE.shape[1] - 0.5))
    last = fair[-max(len(fair) // 20, 1):].mean(axis=0)
    ax.set(xlabel="step", ylabel="expert",
           title=f"{name}: at the end the busiest expert has {last.max():.1f}, "
                 f"the idlest {last.min():.1f} fair shares")
    ax.set_yticks(range(0, share_SE.shape[1], max(share_SE.shape[1] // 8, 1)))
    ax.figure.colorbar(mesh, ax=ax, label="tokens / fair share", ticks=[0, 0.5, 1, 2, 3, 4])
    return ax


def text_by_expert(ax: Axes, text: bytes, expert: Sequence[int], kept: Sequence[bool],
                   num_experts: int, width: int = 80) -> Axes:
    """Draw a text, each byte on the colour of its expert; dropped bytes are hatched.

    The legend names the experts that occur.

    Line breaks are drawn as ⏎, other bytes outside printable ASCII as a dot.
    """
    from matplotlib.patches import Patch, Rectangle

    colors = expert_colors(num_experts)
    for place, (byte, e, keep) in enumerate(zip(text, expert, kept)):
        row, column = divmod(place, width)
        ax.add_patch(Rectangle((column, -row - 1), 1, 1, facecolor=colors[e], linewidth=0))
        if not keep:
            ax.add_patch(Rectangle((column, -row - 1), 1, 1, facecolor="none", hatch="//////",
                                   edgecolor="black", linewidth=0))
        letter = "⏎" if byte == 10 else chr(byte) if 32 <= byte < 127 else "·"
        ax.text(column + 0.5, -row - 0.5, letter, ha="center", va="center", fontsize=8,
                family="DejaVu Sans Mono", color=_readable_on(colors[e]))
    ax.set(xlim=(0, width), ylim=(-math.ceil(len(text) / width), 0))
    ax.set_axis_off()
    patches = [Patch(facecolor=colors[e], label=f"expert {e}")
               for e in sorted(set(map(int, expert)))]
    patches.append(Patch(facecolor="none", hatch="//////", edgecolor="black", label="dropped"))
    ax.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=8,
              ncols=min(len(patches), 9), frameon=False)
    return ax


def _readable_on(color: tuple[float, float, float]) -> str:
    """Return black or white, whichever stands out from the colour."""
    red, green, blue = color
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.45 else "black"


# Notebooks 01 to 03: routing, buffers, loads and the load-balancing loss.

_PAPER = dict(facecolor="white", edgecolor="none", pad=0.8)


def routing(ax: Axes, expert_TK: np.ndarray, gates_TK: np.ndarray, kept_TK: np.ndarray,
            num_experts: int) -> Axes:
    """Draw tokens on the left, experts on the right and a line per choice, as wide as its gate.

    The gate is written on the line. A dropped choice is a dashed grey line that ends in a cross; a
    token all of whose choices are dropped is hatched.
    """
    colors = expert_colors(num_experts)
    tokens = len(expert_TK)
    heights = -(np.arange(num_experts) + 0.5) * tokens / num_experts + 0.5
    for t, k in np.ndindex(*expert_TK.shape):
        e, gate, kept = int(expert_TK[t, k]), float(gates_TK[t, k]), bool(kept_TK[t, k])
        ax.plot([0, 1], [-t, heights[e]], color=colors[e] if kept else "#777777", zorder=1,
                linewidth=1 + 7 * gate if kept else 1.5, linestyle="-" if kept else (0, (4, 3)),
                alpha=0.4 + 0.6 * gate if kept else 1)
        at = 0.1 + 0.09 * k
        ax.text(at, -t + at * (heights[e] + t), f"{gate:.2f}", ha="center", va="center",
                fontsize=9, bbox=_PAPER)
        if not kept:
            ax.text(0.86, -t + 0.86 * (heights[e] + t), "×", ha="center", va="center",
                    fontsize=18, color="#333333")
    for t in range(tokens):
        hatch = None if kept_TK[t].any() else "//////"
        ax.scatter(0, -t, 520, "white", marker="s", edgecolor="black", hatch=hatch, zorder=2)
        ax.text(0, -t, f"t{t}", ha="center", va="center", zorder=3, bbox=_PAPER)
    for e in range(num_experts):
        ax.scatter(1, heights[e], 1500, [colors[e]], edgecolor="black", zorder=2)
        ax.text(1, heights[e], f"expert\n{e}", ha="center", va="center", zorder=3, fontsize=9,
                color=_readable_on(colors[e]))
    ax.set(xlim=(-0.1, 1.15), ylim=(0.6 - tokens, 0.6))
    ax.set_axis_off()
    return ax


def buffers(ax: Axes, plan: Plan, names: Sequence[str] | None = None) -> Axes:
    """Draw the slots of every expert: filled ones in its colour, empty ones dotted.

    The line is the capacity. Choices past it are hatched: they asked for a slot and got none.
    `names` are those of the tokens, t0, t1, ... if none are given. For plans without padding.
    """
    from matplotlib.patches import Rectangle

    groups, experts = plan.load.shape
    colors, width = expert_colors(experts), max(plan.capacity, int(plan.load.max(initial=0)))
    queues: dict[tuple[int, int], list[tuple[bool, int]]] = {}
    for k, t in np.ndindex(*plan.expert.T.shape):
        buffer = (int(plan.group[t]), int(plan.expert[t, k]))
        queues.setdefault(buffer, []).append((bool(plan.kept[t, k]), t))
    for place, (e, g) in enumerate(np.ndindex(experts, groups)):
        queue = sorted(queues.get((g, e), []), key=lambda entry: not entry[0])
        for c in range(max(plan.capacity, len(queue))):
            full, past = c < len(queue), c >= plan.capacity
            ax.add_patch(Rectangle((c, -place - 0.8), 0.94, 0.8, edgecolor="black",
                                   facecolor=colors[e] if full else "white",
                                   hatch="//////" if past else None if full else "...",
                                   linestyle="--" if past else "-"))
            if full:
                ax.text(c + 0.47, -place - 0.4, names[queue[c][1]] if names else f"t{queue[c][1]}",
                        ha="center", va="center", fontsize=9, bbox=_PAPER)
        name = f"expert {e}" + (f", group {g}" if groups > 1 else "")
        ax.text(-0.1, -place - 0.4, name, ha="right", va="center")
    ax.axvline(plan.capacity - 0.03, color="black", linewidth=3)
    ax.set(xlim=(-0.9, max(width, 3)), ylim=(-experts * groups, 0.15), yticks=[], xlabel="slot")
    ax.set_xticks(np.arange(plan.capacity) + 0.47, np.arange(plan.capacity))
    ax.spines[:].set_visible(False)
    return ax


def load_bars(ax: Axes, load_E: np.ndarray, capacity: float | None = None,
              expected_E: np.ndarray | None = None) -> Axes:
    """Draw tokens per expert as bars; what lies past the capacity, a line, is hatched.

    `expected_E`, drawn as diamonds, is the sum of the probabilities: tokens times P.
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
                digits: int = 2) -> Axes:
    """Draw a matrix as a map with its numbers: probabilities from 0 to 1, or signed around 0.

    `rows` and `columns` say what is counted along them. "0" is an exact zero, "≈0" rounds to one.
    """
    top = float(np.abs(values).max(initial=0)) or 1.0
    shade = ax.imshow(values, cmap="RdBu_r" if signed else "Greys", vmin=-top if signed else 0,
                      vmax=top if signed else 2, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        number = f"{value:{'+' if signed else ''}.{digits}f}"
        if float(number) == 0:
            number = "≈0" if value else "0"
        ax.text(j, i, number,
                ha="center", va="center", color=_readable_on(shade.cmap(shade.norm(value))[:3]))
    ax.set(xlabel=columns, ylabel=rows, xticks=range(values.shape[1]),
           yticks=range(values.shape[0]))
    return ax


def token_plane(ax: Axes, x_TD: np.ndarray, w_router: np.ndarray, expert_T: np.ndarray,
                moved_TD: np.ndarray | None = None) -> Axes:
    """Draw tokens of two numbers as points, on the colour of the expert that a router prefers.

    `moved_TD` adds an arrow to where each token goes; a token that stays is hatched.
    """
    colors = expert_colors(w_router.shape[1])
    ends_TD = x_TD if moved_TD is None else moved_TD
    reach = 1.25 * float(np.abs(np.concatenate([x_TD, ends_TD])).max())
    axis = np.linspace(-reach, reach, 300)
    across, up = np.meshgrid(axis, axis)
    best = (np.stack([across, up], axis=-1) @ w_router).argmax(axis=-1)
    ax.imshow(np.array(colors)[best], alpha=0.3, origin="lower", aspect="auto",
              extent=(-reach, reach, -reach, reach))
    for t, (point, end) in enumerate(zip(x_TD, ends_TD)):
        stays = moved_TD is not None and bool((point == end).all())
        if moved_TD is not None and not stays:
            ax.annotate("", end, point, arrowprops=dict(arrowstyle="->", linewidth=1.5, shrinkA=10))
        ax.scatter(*point, 420, [colors[int(expert_T[t])]], edgecolor="black",
                   hatch="//////" if stays else None, zorder=2)
        ax.text(*point, f"t{t}", ha="center", va="center", zorder=3, fontsize=9,
                bbox=_PAPER if stays else None)
    ax.set(xlabel="first number of x", ylabel="second number of x")
    return ax


def curves(ax: Axes, x: np.ndarray, lines: Mapping[str, np.ndarray], xlabel: str, ylabel: str,
           **axes: Any) -> Axes:
    """Draw labelled curves with colours, marks and dashes that differ; `axes` go to `Axes.set`.

    Up to six; marks only where there are few points.
    """
    from matplotlib.ticker import NullLocator

    looks = [("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^"),
             ("#CC79A7", ":", "D"), ("#000000", "-", "x"), ("#E69F00", "--", "v")]
    for (label, values), (color, dashes, mark) in zip(lines.items(), looks):
        ax.plot(x, values, color=color, linestyle=dashes, marker=mark if len(x) < 30 else None,
                label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel, **axes)
    for axis, ticks in ((ax.xaxis, "xticks"), (ax.yaxis, "yticks")):
        if ticks in axes:
            axis.set_minor_locator(NullLocator())
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def balance_surface(ax: Axes, points: Mapping[str, tuple[float, float]]) -> Axes:
    """Draw the load-balancing loss of two experts over f₀ and P₀, with some points (f₀, P₀).

    Grey is out of reach: a token that chose expert 0 gives it at least 1/2 of its probability, so
    f₀ / 2 ≤ P₀ ≤ (1 + f₀) / 2.
    """
    from matplotlib.colors import TwoSlopeNorm

    f, p = np.meshgrid(np.linspace(0, 1, 201), np.linspace(0, 1, 201))
    loss = 2 * (f * p + (1 - f) * (1 - p))
    levels = np.append(np.linspace(0.85, 1, 7), np.linspace(1.1, 2, 10))
    field = ax.contourf(f, p, loss, levels=levels, cmap="PuOr_r", extend="min",
                        norm=TwoSlopeNorm(1, 0.85, 2))
    ax.contour(f, p, loss, levels=[1.0], colors="black", linewidths=1)
    ends = np.array([0.0, 1.0])
    ax.fill_between(ends, 0, ends / 2, color="#BBBBBB", label="out of reach")
    ax.fill_between(ends, (1 + ends) / 2, 1, color="#BBBBBB")
    for (label, point), mark in zip(points.items(), "oDs^v"):
        ax.plot(*point, mark, color="black", markerfacecolor="white", markersize=9, label=label,
                clip_on=False)
    ax.set(xlabel="f₀, share of the tokens that chose expert 0",
           ylabel="P₀, mean probability of expert 0", xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="upper left", fontsize=8)
    ax.figure.colorbar(field, ax=ax, label="loss (black line: 1)", ticks=[0.875, 1, 1.5, 2])
    return ax


# Notebooks 04 and 05: gradient maps and tables of shares.

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
