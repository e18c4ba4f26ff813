"""Pictures: pure functions of arrays and an Axes that return the Axes; animations have a figure.

matplotlib is imported here and nowhere else in the package, when the first picture is drawn.

canvas        figures, numbers, and the colours of experts, the same in every picture
routes        one batch: who goes where, into which slot, and how even that is
ranks         many ranks: which rows an all-to-all carries from where to where
gradients     gradients, right and wrong, and tables
training      a run: losses, loads, text coloured by expert
precision     the bits of numbers, errors and margins against limits, and bars
experiments   what each arm gave with each seed
animations    loads over training, buffers that fill, and sliders

Imported by the commands, the experiments and notebooks.
"""

from switch_np.operations import signatures
from switch_np.plots.animations import moving_buffers, moving_loads, sliders
from switch_np.plots.canvas import (
    Axes as Axes, Figure as Figure, expert_colors, figure, number, shades)
from switch_np.plots.experiments import (
    curves_by_arm, effects, finding, ranges, seeds_by_arm, series_by_arm, trends)
from switch_np.plots.gradients import escapes, gradient_map, heat_table, right_and_wrong
from switch_np.plots.precision import bars, float_bits, strips
from switch_np.plots.ranks import crossing
from switch_np.plots.routes import (
    balance_surface, buffers, load_bars, number_grid, routing, token_plane)
from switch_np.plots.training import curves, expert_load, loss_curve, text_by_expert

__all__ = ["balance_surface", "bars", "buffers", "crossing", "curves", "curves_by_arm", "effects",
           "escapes", "expert_colors", "expert_load", "figure", "finding", "float_bits",
           "gradient_map", "heat_table", "load_bars", "loss_curve", "moving_buffers",
           "moving_loads", "number", "number_grid", "ranges", "right_and_wrong", "routing",
           "seeds_by_arm", "series_by_arm", "shades", "sliders", "strips", "text_by_expert",
           "token_plane", "trends"]
globals().update({name: signatures.checked(globals()[name]) for name in __all__})
