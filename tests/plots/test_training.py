"""Pictures of a training run, and curves."""

import numpy as np

from switch_np import plots


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
                              "0 fair shares")


def test_text_by_expert_colours_each_byte_and_hatches_the_dropped(ax):
    plots.text_by_expert(ax, b"ab\n\xff", [0, 1, 1, 0], [True, True, False, True], 2, width=3)
    colors = plots.expert_colors(2)
    drawn = [patch.get_facecolor()[:3] for patch in ax.patches if patch.get_hatch() is None]
    assert [tuple(color) for color in drawn] == [colors[0], colors[1], colors[1], colors[0]]
    assert sum(patch.get_hatch() is not None for patch in ax.patches) == 1
    assert [text.get_text() for text in ax.texts] == ["a", "b", "⏎", "·"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "expert 0", "expert 1", "dropped"]


def test_a_letter_of_several_bytes_stands_on_its_first(ax):
    plots.text_by_expert(ax, "é’\0字".encode() + b"\xe9", [0] * 10, [True] * 10, 1)
    assert [text.get_text() for text in ax.texts] == ["é", "", "’", "", "", "·", "·", "", "", "·"]


def test_curves_are_labelled_and_differ_without_colour(ax):
    plots.curves(ax, np.array([1, 2, 4]), {"a": [1, 2, 3], "b": [3, 2, 1]}, "experts", "loss",
                 xscale="log", xticks=[1, 2, 4], xticklabels=["1", "2", "4"], title="finding")
    first, second = ax.get_lines()
    assert (first.get_linestyle(), first.get_marker()) != (second.get_linestyle(),
                                                           second.get_marker())
    assert list(second.get_ydata()) == [3, 2, 1] and ax.get_title() == "finding"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("experts", "loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert len(ax.xaxis.get_minorticklocs()) == 0


def test_a_curve_of_several_seeds_has_one_look_and_one_label(ax):
    plots.curves(ax, np.arange(3), {"seeds": np.arange(6).reshape(2, 3), "one": [1, 2, 3]},
                 "x", "y")
    first, second, other = ax.get_lines()
    assert list(second.get_ydata()) == [3, 4, 5] and first.get_color() == second.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["seeds", "one"]
    assert other.get_color() != first.get_color()
