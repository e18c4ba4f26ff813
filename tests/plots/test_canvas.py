"""Figures that show themselves in full, and the colours of experts."""

import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from switch_np import plots


@pytest.mark.parametrize("form", ["zz", ".0%"])
def test_a_format_that_gives_no_number_is_refused(form):
    with pytest.raises(ValueError, match=rf"^form must be a format such as '\+\.2f', got '{form}'"):
        plots.number(1.0, form)


# Linear red, green and blue as seen without red or green receptors: Machado et al. (2009), table 1.
SIGHT = {
    "all": np.eye(3),
    "no red": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "no green": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                          [-0.011820, 0.042940, 0.968881]])}
LMS = np.array([[0.4122215, 0.5363325, 0.0514460], [0.2119035, 0.6806996, 0.1073970],
                [0.0883025, 0.2817188, 0.6299787]])
OKLAB = np.array([[0.2104543, 0.7936178, -0.0040720], [1.9779985, -2.4285922, 0.4505937],
                  [0.0259040, 0.7827718, -0.8086758]])


def differences(colors, sight):
    """Return the distance of each two colours in Oklab, times 100, as people of this sight see."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.cbrt(np.clip(linear @ sight.T, 0, 1) @ LMS.T) @ OKLAB.T
    return 100 * np.linalg.norm(seen[:, None] - seen, axis=-1) + 100 * np.eye(len(colors))


def test_an_expert_keeps_its_colour():
    assert plots.expert_colors(16)[:8] == plots.expert_colors(8)
    assert len(plots.expert_colors(64)) == 64


@pytest.mark.parametrize("sight", SIGHT)
def test_sixteen_experts_can_be_told_apart_by_colour_blind_people_too(sight):
    apart = differences(np.array([*plots.expert_colors(16), (1, 1, 1)]), SIGHT[sight])   # and white
    assert apart[8:].min() > 8.8               # eight hues at half their brightness: 1.1


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
