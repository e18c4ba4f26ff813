"""The picture of an all-to-all: rows, arrows, what is dropped and what is empty."""

import numpy as np
import pytest

from switch_np import plans, plots

EXPERT = np.array([[[0], [1], [0]], [[3], [2], [0]]])      # of two ranks; each has two experts


def drawn(ax, layout="packed", back=False):
    """Draw, and return the names of the rows on top and below, by rank, and the arrows."""
    plots.crossing(ax, [plans.fill(expert, 4, capacity=1, layout=layout) for expert in EXPERT],
                   back)
    arrows = [note for note in ax.texts if hasattr(note, "arrow_patch")]
    lines = [sorted((text.get_position()[0], text.get_text()) for text in ax.texts
                    if text not in arrows and text.get_position()[1] == height)
             for height in (2.45, 0.25)]
    return *([name for _, name in line] for line in lines), arrows


def test_rows_stand_by_expert_and_then_by_the_rank_that_sent_them(ax):
    top, bottom, arrows = drawn(ax)
    assert top == ["t0", "t1", "t2", "t5", "t4", "t3"]     # t2 is dropped, in the end
    assert bottom == ["t0", "t1", "t5", "t4", "t3"] and len(arrows) == 5
    assert {"rank 0", "rank 1", "expert 0", "expert 3"} <= {text.get_text() for text in ax.texts}
    hatched = [patch for patch in ax.patches if patch.get_hatch() == "//////"]
    assert [patch.get_x() + 0.46 for patch in hatched] == [2] and len(ax.patches) == 6 + 5


@pytest.mark.parametrize("back", [False, True])
def test_arrows_lead_from_a_row_to_itself_in_the_colour_of_its_expert(ax, back):
    *_, arrows = drawn(ax, back=back)
    at = {(round(text.get_position()[0], 6), text.get_position()[1] > 1): text.get_text()
          for text in ax.texts if text.get_text()[:1] == "t"}
    expert = dict(t0=0, t1=1, t5=0, t4=2, t3=3)
    for arrow in arrows:
        (begin, high), (end, low) = arrow.xyann, arrow.xy
        name = at[round(begin, 6), high > 1]
        assert name == at[round(end, 6), low > 1] and (high < low) == back
        assert arrow.arrow_patch.get_edgecolor()[:3] == plots.expert_colors(4)[expert.pop(name)]
        assert arrow.arrow_patch.get_linewidth() == (2.5 if name == "t5" else 1.0)  # it travels
    assert not expert


def test_empty_slots_travel_too(ax):
    top, bottom, arrows = drawn(ax, "buffers")
    assert len(arrows) == 2 * 4 and (top[:3], bottom[:3]) == (["t0", "t1", "t2"], top[:2] + ["t5"])
    dotted = [patch.get_x() + 0.46 for patch in ax.patches if patch.get_hatch() == "..."]
    assert len(dotted) == 2 * 3 and {2.0, 3.0} <= set(np.round(dotted, 6))
