"""Pictures that move: animations that play without a kernel, and sliders where one runs.

An animation starts with its end, so that its first frame tells the whole; `save(path,
writer="pillow")` writes it as a GIF.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_np.plots.canvas import expert_colors, figure, number, readable_on, write
from switch_np.plots.routes import buffers
from switch_np.switch.plan import Plan

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation as Animation
else:
    Animation = Any


def moving_loads(steps: np.ndarray, shares: Mapping[str, np.ndarray], title: str) -> Animation:
    """Animate each expert's load over training, a panel per run, a fifth of a second per step.

    `shares` are (steps, E) by the run's name, each row adding up to 1; the dashed line is the fair
    share, 1/E.
    """
    fig, axes = figure(columns=len(shares), size=(8, 3.4), sharey=True)
    experts, last = len(next(iter(shares.values()))[0]), len(steps) - 1
    fair = {name: experts * share_SE for name, share_SE in shares.items()}
    bars = {name: ax.bar(range(experts), fair[name][last], color=expert_colors(experts),
                         edgecolor="black") for ax, name in zip(axes[0], fair)}
    for ax in axes[0]:
        ax.axhline(1, color="black", linestyle="--", label="fair share")
        ax.set(xlabel="expert", xticks=range(experts), yticks=range(experts + 1),
               ylim=(0, 1.1 * max(load_SE.max() for load_SE in fair.values())))
    axes[0, 0].set_ylabel("tokens / fair share")
    axes[0, -1].legend(loc="upper right")

    def draw(frame: int) -> None:
        fig.suptitle(f"{title}\nstep {steps[frame]} of {steps[last]}")
        for ax, (name, load_SE) in zip(axes[0], fair.items()):
            ax.set_title(f"{name}: busiest {number(load_SE[frame].max(), '.1f')}, "
                         f"idlest {number(load_SE[frame].min(), '.1f')}", fontsize=11)
            for bar, height in zip(bars[name], load_SE[frame]):
                bar.set_height(height)

    return _animation(fig, draw, last, 200, hold=10)


def moving_buffers(plan: Plan, title: str) -> Animation:
    """Animate how tokens fill the buffers in order of position, a second each.

    The row below is what goes on to the next layer: x + y from tokens with a slot, x alone from
    dropped ones.
    """
    from matplotlib.patches import Rectangle

    tokens, experts = len(plan.expert), plan.load.shape[1]
    colors = expert_colors(experts)
    fig, ((top,), (below,)) = figure(2, size=(7, 1.7 + 0.6 * experts),
                                     height_ratios=[experts, 1.2])

    def draw(arrived: int) -> None:
        top.clear()
        waits_T1 = np.arange(tokens)[:, None] >= arrived
        buffers(top, replace(plan, expert=np.where(waits_T1, -1, plan.expert)))
        top.set_title(_event(plan, arrived), fontsize=11)
        below.clear()
        for t, (chosen, kept) in enumerate(zip(plan.expert, plan.kept)):
            color = colors[chosen[kept][0]] if t < arrived and kept.any() else (1.0, 1.0, 1.0)
            below.add_patch(Rectangle((t, 0), 0.94, 0.8, facecolor=color, edgecolor="black",
                                      linewidth=3 if t == arrived - 1 else 1))
            if t < arrived:
                write(below, t + 0.47, 0.4, f"t{t}: x + y" if kept.any() else f"t{t}: x",
                      fontsize=9, color=readable_on(color))
        below.set(xlim=(-0.1, tokens), ylim=(-0.05, 0.85), xticks=[], yticks=[],
                  xlabel="what goes on to the next layer")
        below.spines[:].set_visible(False)

    fig.suptitle(title)
    return _animation(fig, draw, tokens + 1, 1000, hold=3)


def _event(plan: Plan, arrived: int) -> str:
    """Return what happened last, in words; after the last token, what all came to."""
    if arrived > len(plan.slot):
        return f"{len(plan.slot)} tokens have come, {(~plan.kept).sum()} dropped"
    if arrived == 0:
        return "no token has come"
    wants = [f"expert {e}: " + (f"slot {slot}" if slot >= 0 else "full, dropped")
             for e, slot in zip(plan.expert[arrived - 1], plan.slot[arrived - 1])]
    return f"t{arrived - 1} wants " + ", then ".join(wants)


def _animation(fig: Any, draw: Callable[[int], None], last: int, milliseconds: int,
               hold: int) -> Animation:
    """Animate the frames 0 to `last`, after `hold` times the last."""
    from matplotlib.animation import FuncAnimation

    return FuncAnimation(fig, draw, [last] * hold + [*range(last)], interval=milliseconds,
                         cache_frame_data=False)


def sliders(draw: Callable[..., Any], **choices: Any) -> None:
    """Show what `draw` returns, drawn anew when a reader moves a slider per argument.

    `choices` are what `ipywidgets.interact` takes: (least, greatest, step), or a list for a menu; a
    slider starts at the argument's default. Without ipywidgets, as in a browser, a line says so.
    """
    try:
        from ipywidgets import interact
    except ImportError:
        print("no slider here, as ipywidgets is missing; see the still pictures")
    else:
        interact(draw, **choices)
