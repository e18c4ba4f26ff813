"""Pictures of a training run: loss, load, text coloured by expert; and curves of any kind."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from switch_np.plots.canvas import Axes, expert_colors, number, readable_on, write

_LOOKS = [("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^"),
          ("#CC79A7", ":", "D"), ("#000000", "-", "x"), ("#E69F00", "--", "v")]


def loss_curve(ax: Axes, steps: np.ndarray, bits: np.ndarray,
               levels: Mapping[str, float] | None = None, ylabel: str = "bits per byte") -> Axes:
    """Draw the training loss over steps, pale, and its running mean, bold.

    `levels` are labelled horizontal lines, such as baselines.
    """
    width = max(len(bits) // 50, 10)
    ax.plot(steps, bits, color="#0072B2", alpha=0.25, linewidth=0.8)
    if len(bits) >= width:
        mean = np.convolve(bits, np.ones(width) / width, mode="valid")
        ax.plot(steps[width - 1:], mean, color="#0072B2",
                label=f"training (mean of the last {width} steps)")
    styles = [("#D55E00", "--"), ("#009E73", "-."), ("#000000", ":")]
    for (label, level), (color, style) in zip((levels or {}).items(), styles):
        ax.axhline(level, color=color, linestyle=style, label=f"{label}: {level:.2f}")
    ax.set(xlabel="step", ylabel=ylabel)
    ax.legend()
    return ax


def expert_load(ax: Axes, steps: np.ndarray, share_SE: np.ndarray, name: str) -> Axes:
    """Draw each expert's share of the tokens over steps, as a multiple of the fair share 1/E.

    White is the fair share, red is above, blue below; the scale ends at four times the fair share.
    """
    from matplotlib.colors import TwoSlopeNorm

    experts = share_SE.shape[1]
    fair = experts * share_SE
    mesh = ax.imshow(fair.T, aspect="auto", interpolation="nearest", cmap="RdBu_r", origin="lower",
                     norm=TwoSlopeNorm(1, 0, 4),
                     extent=(steps[0] - 0.5, steps[-1] + 0.5, -0.5, experts - 0.5))
    last = fair[-max(len(fair) // 20, 1):].mean(axis=0)
    ax.set(xlabel="step", ylabel="expert", yticks=range(0, experts, max(experts // 8, 1)),
           title=f"{name}: at the end the busiest expert has "
                 f"{number(last.max(), '.1f')}, the idlest {number(last.min(), '.1f')} fair shares")
    ax.figure.colorbar(mesh, ax=ax, label="tokens / fair share", ticks=[0, 0.5, 1, 2, 3, 4])
    return ax


def text_by_expert(ax: Axes, text: bytes, expert: Sequence[int] | np.ndarray,
                   kept: Sequence[bool] | np.ndarray, num_experts: int, width: int = 80) -> Axes:
    """Draw a text, each byte on the colour of its expert; dropped bytes are hatched.

    Line breaks are drawn as ⏎. A letter of several bytes stands on its first; what is no Latin
    letter or punctuation is a dot.
    """
    from matplotlib.patches import Patch, Rectangle

    colors = expert_colors(num_experts)
    dropped: dict[str, Any] = dict(facecolor="none", hatch="//////", edgecolor="black")
    letters = _letters(text)
    # Everything lies within the axes, so `add_artist` and `in_layout` save work on each artist.
    for index, (letter, e, keep) in enumerate(zip(letters, expert, kept)):
        row, column = divmod(index, width)
        for look in [dict(facecolor=colors[e]), *[dropped] * (not keep)]:
            ax.add_artist(Rectangle((column, -row - 1), 1, 1, linewidth=0, in_layout=False, **look))
        write(ax, column + 0.5, -row - 0.5, letter, fontsize=8, family="DejaVu Sans Mono",
              color=readable_on(colors[e]), in_layout=False)
    ax.set(xlim=(0, width), ylim=(-math.ceil(len(text) / width), 0))
    ax.set_axis_off()
    patches = [Patch(facecolor=colors[e], label=f"expert {e}") for e in np.unique(expert)]
    patches.append(Patch(label="dropped", **dropped))
    ax.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=8,
              ncols=min(len(patches), 9), frameon=False)
    return ax


def _letters(text: bytes) -> list[str]:
    """Return what is drawn for each byte."""
    letters = []
    for letter in text.decode("utf-8", "surrogateescape"):
        shown = letter.isprintable() and (letter < "\u0250" or "\u2010" <= letter < "\u2050")
        letters.append("⏎" if letter == "\n" else letter if shown else "·")
        letters += [""] * (len(letter.encode("utf-8", "surrogateescape")) - 1)
    return letters


def curves(ax: Axes, x: Sequence[float] | np.ndarray, lines: Mapping[str, np.ndarray], xlabel: str,
           ylabel: str, **axes: Any) -> Axes:
    """Draw up to six labelled curves, which differ in colour, dashes and, if short, in marks.

    A curve has a number per x, or is several, (seeds, x), of one look. `axes` go to `Axes.set`.
    """
    from matplotlib.ticker import NullLocator

    for (label, values), (color, dashes, mark) in zip(lines.items(), _LOOKS):
        first, *_ = ax.plot(x, np.transpose(values), color=color, linestyle=dashes,
                            marker=mark if len(x) < 30 else None)
        first.set_label(label)
    ax.set(xlabel=xlabel, ylabel=ylabel, **axes)
    for axis, ticks in ((ax.xaxis, "xticks"), (ax.yaxis, "yticks")):
        if ticks in axes:
            axis.set_minor_locator(NullLocator())
    ax.grid(alpha=0.3)
    ax.legend()
    return ax
