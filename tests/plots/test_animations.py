"""Animations begin with their end, and sliders are told where there are none."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from switch_np import plots
from switch_np.switch import plan as plans


def played(moving):
    """Return a moving picture's figure, what draws a frame, and the order of the frames."""
    moving._draw_was_started = True                 # one that is never drawn would warn
    return moving._fig, moving._func, list(moving.new_frame_seq())


def test_loads_begin_with_the_end():
    share_SE = np.array([[0.5, 0.5], [0.9, 0.1]])
    fig, draw, order = played(plots.moving_loads(
        np.array([3, 7]), {"even": share_SE[::-1], "not": share_SE}, "a finding"))
    assert order == [1] * 10 + [0]
    for frame, step in ((1, 7), (0, 3)):
        draw(frame)
        assert fig.get_suptitle() == f"a finding\nstep {step} of 7"
        for ax, share in zip(fig.axes, (share_SE[1 - frame], share_SE[frame])):
            assert [bar.get_height() for bar in ax.patches] == pytest.approx(2 * share)
            assert f"busiest {2 * share.max():.1f}, idlest {2 * share.min():.1f}" in ax.get_title()


def test_buffers_fill_token_by_token_and_a_dropped_token_s_x_goes_on():
    plan = plans.fill(np.array([[0], [0], [1]]), 2, capacity=1)
    fig, draw, order = played(plots.moving_buffers(plan, "a finding"))
    assert order == [4, 4, 4, 0, 1, 2, 3]
    top, below = fig.axes
    for arrived, said in enumerate(("no token has come", "t0 wants expert 0: slot 0",
                                    "t1 wants expert 0: full, dropped",
                                    "t2 wants expert 1: slot 0", "3 tokens have come, 1 dropped")):
        draw(arrived)
        assert top.get_title() == said
        assert {text.get_text() for text in top.texts} == {
            "expert 0", "expert 1", *["t0", "t1", "t2"][:arrived]}
        goes_on = ["t0: x + y", "t1: x", "t2: x + y"][:arrived]
        assert [text.get_text() for text in below.texts] == goes_on
        white = [box.get_facecolor()[:3] == (1, 1, 1) for box in below.patches]
        assert white == ["y" not in text for text in goes_on] + [True] * (3 - len(goes_on))


def test_sliders_are_ipywidgets_or_a_line(monkeypatch, capsys):
    calls = []
    for module in (SimpleNamespace(interact=lambda draw, **choices: calls.append(choices)), None):
        monkeypatch.setitem(sys.modules, "ipywidgets", module)
        assert plots.sliders(lambda factor: factor, factor=(0, 2)) is None
    assert calls == [{"factor": (0, 2)}]
    assert capsys.readouterr().out == (
        "no slider here, as ipywidgets is missing; see the still pictures\n")
