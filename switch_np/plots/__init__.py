"""Pictures: pure functions of arrays and an Axes that return the Axes.

matplotlib is imported here and nowhere else in the package.

canvas        figures, and the colours of experts, the same in every picture
batch         one batch: routing, buffers, loads
gradients     gradients and tables of shares
training      a run: losses, loads, text coloured by expert
errors        errors and margins against limits, one dot per number
precision     the bits of numbers
museum        right and wrong gradients side by side
experiments   what each arm gave with each seed
"""

from switch_np.plots.batch import (
    balance_surface, buffers, load_bars, number_grid, routing, token_plane)
from switch_np.plots.canvas import expert_colors, figure
from switch_np.plots.errors import strips
from switch_np.plots.experiments import (
    curves_by_arm, finding, ranges, seeds_by_arm, series_by_arm, trends)
from switch_np.plots.gradients import gradient_map, heat_table
from switch_np.plots.museum import escapes, right_and_wrong
from switch_np.plots.precision import bars, float_bits
from switch_np.plots.training import curves, expert_load, loss_curve, text_by_expert

__all__ = ["balance_surface", "bars", "buffers", "curves", "curves_by_arm", "escapes",
           "expert_colors", "expert_load", "figure", "finding", "float_bits",
           "gradient_map", "heat_table", "load_bars", "loss_curve", "number_grid",
           "ranges", "right_and_wrong", "routing", "seeds_by_arm", "series_by_arm",
           "strips", "text_by_expert", "token_plane", "trends"]
