"""Pictures: pure functions of arrays and an Axes that return the Axes.

matplotlib is imported here and nowhere else in the package, when the first picture is drawn.

canvas        figures, and the colours of experts, the same in every picture
routes        one batch: who goes where, into which slot, and how even that is
gradients     gradients, right and wrong, and tables
training      a run: losses, loads, text coloured by expert
errors        errors and margins against limits, one dot per number
bits          the bits of numbers, and bars
experiments   what each arm gave with each seed

Imported by the commands, the experiments and notebooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switch_np.plots.bits import bars, float_bits
from switch_np.plots.canvas import expert_colors, figure, shades
from switch_np.plots.errors import strips
from switch_np.plots.experiments import (
    curves_by_arm, finding, ranges, seeds_by_arm, series_by_arm, trends)
from switch_np.plots.gradients import escapes, gradient_map, heat_table, right_and_wrong
from switch_np.plots.routes import (
    balance_surface, buffers, load_bars, number_grid, routing, token_plane)
from switch_np.plots.training import curves, expert_load, loss_curve, text_by_expert

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure

__all__ = ["balance_surface", "bars", "buffers", "curves", "curves_by_arm",
           "escapes", "expert_colors", "expert_load", "figure", "finding", "float_bits",
           "gradient_map", "heat_table", "load_bars", "loss_curve", "number_grid",
           "ranges", "right_and_wrong", "routing", "seeds_by_arm", "series_by_arm", "shades",
           "strips", "text_by_expert", "token_plane", "trends"]
