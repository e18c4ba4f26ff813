"""Figures that show themselves in full, and the colours of experts."""

import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
from PIL import Image

from switch_np import plots


def test_an_expert_keeps_its_colour():
    assert plots.expert_colors(16)[:8] == plots.expert_colors(8)
    assert len(set(plots.expert_colors(16))) == 16 and len(plots.expert_colors(64)) == 64


def test_a_figure_shows_itself_in_a_notebook_in_full_colour_and_in_words(monkeypatch):
    made, axes = plots.figure(columns=2, size=(3, 2), dpi=200)
    shown = []
    for name, module in {"IPython": SimpleNamespace(), "IPython.display": SimpleNamespace(
            Image=lambda png, **how: (png, how), display=shown.append)}.items():
        monkeypatch.setitem(sys.modules, name, module)             # need not be installed
    made.suptitle("a finding")
    axes[0, 0].set(title="left,\nlow", xlabel="step")
    axes[0, 1].plot([1, 2], label="one")
    axes[0, 1].legend()
    made._ipython_display_()
    png, how = shown[0]
    assert how == {"width": 300, "alt": "a finding. left, low (step). (one)"}
    made.canvas.draw()
    seen = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
    assert (seen == np.asarray(made.canvas.buffer_rgba())[..., :3]).all() and seen.shape[1] == 600
