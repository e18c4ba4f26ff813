"""Pictures of gradients, right and wrong, and of tables."""

import numpy as np

from switch_np import plots


def test_gradient_map_is_centred_on_zero_and_tells_exact_zeros_from_small_numbers(ax):
    values = np.array([[-2.0, 0.0, 0.5], [0.0, 0.0, 1e-9]])
    plots.gradient_map(ax, values, "finding", ["token 0", "token 1"], ["e0", "e1", "e2"],
                       row_experts=[2, 0], column_experts=range(3), hatched=[1])
    low, high = ax.images[0].get_clim()
    assert (low, high) == (-2.0, 2.0) and ax.images[0].get_cmap().name == "RdBu_r"
    drawn = {text.get_position(): text.get_text() for text in ax.texts}
    assert drawn == {(0, 0): "-2.00", (1, 0): "0", (2, 0): "+0.50",
                     (0, 1): "0", (1, 1): "0", (2, 1): "≈0"}
    pale = {text.get_text() for text in ax.texts if text.get_color() == "#AAAAAA"}
    assert pale == {"0", "≈0"}                                  # four of six cells
    boxes = [label.get_bbox_patch().get_facecolor()[:3] for label in ax.get_yticklabels()]
    assert boxes == [plots.expert_colors(3)[2], plots.expert_colors(3)[0]]
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    assert [(patch.get_y(), patch.get_width()) for patch in hatched] == [(0.5, 3)]
    assert ax.get_title() == "finding"


def test_gradient_maps_of_zeros_have_a_scale_and_others_may_share_one(ax):
    plots.gradient_map(ax, np.zeros((2, 2)), "", ["a", "b"], ["c", "d"])
    assert ax.images[0].get_clim() == (-1.0, 1.0)
    assert {text.get_text() for text in ax.texts} == {"0"}
    plots.gradient_map(ax, np.array([[0.5]]), "", ["a"], ["b"], limit=3.0)
    assert ax.images[1].get_clim() == (-3.0, 3.0)


def test_heat_table_is_in_per_cent(ax):
    plots.heat_table(ax, np.array([[0.25, 0.745, 0.005], [1.0, 0.0, 0.0]]), "finding",
                     ["expert 0", "all"], ["a-z", "0-9", "other"], row_experts=[0])
    assert [text.get_text() for text in ax.texts] == ["25", "74", "≈0", "100", "0", "0"]
    assert [text.get_color() for text in ax.texts[-2:]] == ["black"] * 2  # three zeros of six
    assert ax.images[0].get_clim() == (0, 1) and ax.get_xlabel() == "% of the row"
    expert, all_bytes = ax.get_yticklabels()
    assert expert.get_bbox_patch().get_facecolor()[:3] == plots.expert_colors(1)[0]
    assert all_bytes.get_bbox_patch() is None


def test_right_and_wrong_share_a_scale_and_rounding_is_no_zero():
    axes = plots.figure(columns=3)[1][0]
    right = np.array([[1.0, 0.0], [-0.5, 0.25]])
    wrong = np.array([[1.0 + 1e-15, 0.0], [-0.5, 3.0]])
    plots.right_and_wrong(axes, right, wrong, "d_w", ["a", "b"], ["c", "d"])
    assert [ax.images[0].get_clim() for ax in axes] == [(-3.0, 3.0)] * 3
    assert [text.get_text() for text in axes[2].texts] == ["≈0", "0", "0", "+2.75"]
    assert [ax.get_title() for ax in axes] == ["d_w, right", "d_w, wrong",
                                               "the error: wrong − right"]


def test_right_and_wrong_names_what_is_no_number():
    axes = plots.figure(columns=3)[1][0]
    plots.right_and_wrong(axes, np.ones((1, 2)), np.array([[np.nan, 2.0]]), "d_w", ["a"],
                          ["b", "c"])
    assert axes[1].images[0].get_clim() == (-2.0, 2.0)
    assert [text.get_text() for text in axes[1].texts] == ["NaN", "+2.00"]


def test_escapes_are_dotted_and_counted(ax):
    through = np.array([[True, False], [True, True], [False, False]])
    plots.escapes(ax, through, "finding", ["bug a", "bug b", "bug c"], ["loose", "tight"])
    dots = ax.get_lines()[0]
    assert list(zip(dots.get_ydata(), dots.get_xdata())) == [(0, 0), (1, 0), (1, 1)]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["loose: 2", "tight: 1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bug a", "bug b", "bug c"]
    assert ax.get_title() == "finding"
