"""Pictures: pure functions that take arrays and an Axes, and give the Axes back.

matplotlib is imported when the first picture is drawn, and nowhere else in the package.
"""

from switch_np.plots.batch import (
    balance_surface, buffers, load_bars, number_grid, routing, token_plane)
from switch_np.plots.canvas import expert_colors, figure
from switch_np.plots.errors import strips
from switch_np.plots.experiments import (
    curves_by_arm, finding, ranges, seeds_by_arm, series_by_arm, trends)
from switch_np.plots.gradients import gradient_map, heat_table
from switch_np.plots.museum import escapes, right_and_wrong
from switch_np.plots.training import curves, expert_load, loss_curve, text_by_expert

__all__ = ["balance_surface", "buffers", "curves", "curves_by_arm", "escapes", "expert_colors",
           "expert_load", "figure", "finding", "gradient_map", "heat_table", "load_bars",
           "loss_curve", "number_grid", "ranges", "right_and_wrong", "routing", "seeds_by_arm",
           "series_by_arm", "strips", "text_by_expert", "token_plane", "trends"]
