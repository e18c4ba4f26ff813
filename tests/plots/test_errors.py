"""Strips of errors against limits."""

import numpy as np

from switch_np import plots


def test_strips_cross_what_lies_beyond_the_first_limit(ax):
    plots.strips(ax, {"right": np.array([[0.0, 0.5], [1.0, 2.0]]), "wrong": np.array([1.0, 50.0])},
                 "sigmas", {"limit": 4.0, "other": 9.0}, 0.1)
    dots, crosses = ([line for line in ax.get_lines() if line.get_marker() == mark]
                     for mark in ".x")
    assert [sorted(line.get_xdata()) for line in dots] == [[0.1, 0.5, 1.0, 2.0], [1.0]]
    assert [list(line.get_xdata()) for line in crosses] == [[], [50.0]]
    assert all(abs(line.get_ydata() - row).max() < 0.5 for row, line in enumerate(dots))
    assert [line.get_xdata()[0] for line in ax.get_lines()[-2:]] == [4.0, 9.0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["limit", "other"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["right", "wrong"]
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "sigmas")
    calm = plots.figure()[1][0, 0]
    plots.strips(calm, {"margins": np.array([1.0, 50.0])}, "", {"tau": 4.0}, 0.1, alarm=False)
    assert [list(line.get_xdata()) for line in calm.get_lines()[:2]] == [[1.0, 50.0], []]
