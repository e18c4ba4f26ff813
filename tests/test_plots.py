"""Every picture is drawn, says what it shows, and keeps an expert's colour."""

import numpy as np
import pytest

from switch_np import plots


@pytest.fixture
def ax():
    return plots.figure()[1][0, 0]


def test_loss_curve_labels_its_axes_and_levels(ax):
    plots.loss_curve(ax, np.arange(1, 101), np.linspace(8, 2, 100), {"bigram": 3.4})
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "bits per byte")
    assert any("bigram: 3.40" in text.get_text() for text in ax.get_legend().get_texts())
    line = ax.get_lines()[1]
    np.testing.assert_allclose(line.get_ydata()[0], np.linspace(8, 2, 100)[:10].mean())


def test_expert_load_is_in_fair_shares(ax):
    share = np.tile([0.5, 0.25, 0.25, 0.0], (20, 1))
    plots.expert_load(ax, np.arange(1, 21), share, "Switch layer 1")
    np.testing.assert_allclose(ax.images[0].get_array()[:, 0], [2, 1, 1, 0])
    assert ax.get_title() == ("Switch layer 1: at the end the busiest expert has 2.0, the idlest "
                              "0.0 fair shares")


def test_text_by_expert_colours_each_byte_and_hatches_the_dropped(ax):
    plots.text_by_expert(ax, b"ab\n\xff", [0, 1, 1, 0], [True, True, False, True], 2, width=3)
    colors = plots.expert_colors(2)
    drawn = [patch.get_facecolor()[:3] for patch in ax.patches if patch.get_hatch() is None]
    assert [tuple(color) for color in drawn] == [colors[0], colors[1], colors[1], colors[0]]
    assert sum(patch.get_hatch() is not None for patch in ax.patches) == 1
    assert [text.get_text() for text in ax.texts] == ["a", "b", "⏎", "·"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "expert 0", "expert 1", "dropped"]


def test_an_expert_keeps_its_colour():
    assert plots.expert_colors(16)[:8] == plots.expert_colors(8)
    assert len(set(plots.expert_colors(16))) == 16 and len(plots.expert_colors(64)) == 64
