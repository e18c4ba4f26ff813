"""Figures that show themselves as small pictures, and the colours of experts."""

import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
from PIL import Image

from switch_np import plots
from switch_np.plots.canvas import _small_png


def test_an_expert_keeps_its_colour():
    assert plots.expert_colors(16)[:8] == plots.expert_colors(8)
    assert len(set(plots.expert_colors(16))) == 16 and len(plots.expert_colors(64)) == 64


def test_a_figure_shows_itself_in_a_notebook_as_a_small_picture(monkeypatch):
    made, axes = plots.figure(size=(3, 2))
    shown = []
    for name, module in {"IPython": SimpleNamespace(), "IPython.display": SimpleNamespace(
            Image=bytes, display=shown.append)}.items():             # need not be installed
        monkeypatch.setitem(sys.modules, name, module)
    axes[0, 0].set_title("a finding")
    made._ipython_display_()
    png = shown[0]
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) < 6000
    assert int.from_bytes(png[16:20], "big") == 300 and int.from_bytes(png[20:24], "big") == 200


def test_the_small_picture_keeps_the_colours_of_cells_and_of_experts_labels():
    made, axes = plots.figure(columns=4, size=(10, 3))
    for ax, values in zip(axes[0], np.random.default_rng(0).standard_normal((4, 8, 4))):
        plots.gradient_map(ax, values, "", list("abcdefgh"), list("wxyz"), column_experts=range(4))
    made.canvas.draw()
    full, small, experts = (np.asarray(each)[..., :3] @ np.array([2 ** 16, 2 ** 8, 1]) for each in (
        made.canvas.buffer_rgba(), Image.open(BytesIO(_small_png(made))).convert("RGB"),
        np.round(255 * np.array(plots.expert_colors(4))).astype(int)))
    colors, count = np.unique(full, return_counts=True)
    for color in [*colors[np.argsort(-count)[:55]], *experts]:
        here = full == color
        assert here.any() and (small[here] == color).all()
    for color in experts:
        assert np.count_nonzero(small == color) > 4 * 50
