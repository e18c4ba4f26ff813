"""Pictures of many ranks: which rows an all-to-all carries from where to where."""

from collections.abc import Sequence

import numpy as np

from switch_np.operations import check
from switch_np.plots.canvas import Axes, expert_colors, readable_on, write
from switch_np.switch.plan import Plan

Row = tuple[str, tuple[float, ...], str | None]            # name, colour and hatch
_EMPTY: Row = ("", (1.0, 1.0, 1.0), "...")
_TOP, _BOTTOM = 2.2, 0.0                                   # where the two lines of rows begin


def crossing(ax: Axes, plans: Sequence[Plan], back: bool = False) -> Axes:
    """Draw the all-to-all that takes the rows of each rank's plan to the ranks of their experts.

    On top are the rows that each rank sends, in order, and the choices that it drops, hatched; at
    the bottom those that come to each, in the order of their senders. Dotted rows are empty slots;
    what stays on its rank has a thin arrow. With `back` the arrows point up: the way of the
    results. Tokens are numbered over all ranks. The plans must be without padding.
    """
    check.instance("plans", plans, list, tuple)
    n, num_experts = len(plans), len(plans[0].start) - 1
    own, colors, first = num_experts // n, expert_colors(num_experts), 0
    sent, came = list[list[Row]]([] for _ in plans), list[list[Row]]([] for _ in plans)
    moves = list[tuple[int, int, int, int, Row]]()
    for rank, plan in enumerate(plans):
        expert_R = np.arange(num_experts).repeat(np.diff(plan.start))
        for e, t in zip(expert_R.tolist(), plan.token_of_row.tolist()):
            row: Row = (f"t{first + t}", colors[e], None) if t >= 0 else _EMPTY
            moves.append((rank, len(sent[rank]), e // own, len(came[e // own]), row))
            sent[rank].append(row)
            came[e // own].append(row)
        sent[rank] += [(f"t{first + t}", colors[plan.expert[t, k]], "//////")
                       for t, k in np.argwhere(~plan.kept)]
        first += len(plan.expert)
    width = 1.5 + max(map(len, sent + came))
    for line, height in ((sent, _TOP), (came, _BOTTOM)):
        for rank, rows in enumerate(line):
            for place, row in enumerate(rows):
                _box(ax, rank * width + place, height, *row)
    for source, i, target, j, (name, color, _) in moves:
        ends = (source * width + i, _TOP), (target * width + j, _BOTTOM + 0.5)
        _arrow(ax, *(ends[::-1] if back else ends), color if name else (0.75, 0.75, 0.75),
               1.0 if source == target else 2.5)
    for rank in range(n):
        middle = rank * width + width / 2 - 1.25
        write(ax, middle, _TOP + 0.8, f"rank {rank}", fontweight="bold")
        for i in range(own):
            e = rank * own + i
            write(ax, middle + 2 * i + 1 - own, _BOTTOM - 0.42, f"expert {e}", fontsize=9,
                  color=readable_on(colors[e]), bbox=dict(facecolor=colors[e], pad=2.5))
    ax.set(xlim=(-0.75, n * width - 1.75), ylim=(-0.75, _TOP + 1.05))
    ax.set_axis_off()
    return ax


def _box(ax: Axes, x: float, y: float, name: str, color: tuple[float, ...],
         hatch: str | None) -> None:
    """Draw a row that has a token's name, is empty (dotted) or dropped (hatched)."""
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((x - 0.46, y), 0.92, 0.5, facecolor=color, edgecolor="black",
                           hatch=hatch, linestyle="--" if hatch == "//////" else "-"))
    if name:
        write(ax, x, y + 0.25, name, fontsize=9,
              bbox=dict(facecolor="white", edgecolor="none", pad=0.8))


def _arrow(ax: Axes, begin: tuple[float, float], end: tuple[float, float],
           color: tuple[float, ...], width: float) -> None:
    """Draw an arrow with a dark edge, so that a light colour stands out."""
    from matplotlib.patheffects import withStroke

    edge = [withStroke(linewidth=width + 1.5, foreground="#444444")]
    ax.annotate("", end, begin, arrowprops=dict(
        arrowstyle="-|>", color=color, linewidth=width, shrinkA=0, shrinkB=1, path_effects=edge))
