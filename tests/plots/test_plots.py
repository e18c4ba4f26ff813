"""Every picture is drawn, says what it shows, and keeps an expert's colour."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from switch_np import SwitchConfig, plots
from switch_np.plots.canvas import _small_png
from switch_np.switch import balance_loss, plan as plans


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


# Notebooks 01 to 03.

def toy_plan(k=1, **options):
    probs = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.9, 0.0, 0.1], [0.2, 0.1, 0.7],
                      [0.7, 0.2, 0.1], [0.1, 0.5, 0.4]])
    return probs, plans.decide(probs, SwitchConfig(num_experts=3, top_k=k, capacity_factor=1.0,
                                                   **options))


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_figure_shows_itself_in_a_notebook_as_a_small_picture(monkeypatch):
    shown = []
    for name, module in {"IPython": SimpleNamespace(), "IPython.display": SimpleNamespace(
            Image=bytes, display=shown.append)}.items():             # need not be installed
        monkeypatch.setitem(sys.modules, name, module)
    made, axes = plots.figure(size=(3, 2))
    axes[0, 0].set_title("a finding")
    made._ipython_display_()
    png = shown[0]
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) < 6000
    assert int.from_bytes(png[16:20], "big") == 300 and int.from_bytes(png[20:24], "big") == 200


def test_the_small_picture_keeps_the_colours_of_cells_and_experts():
    from io import BytesIO

    from PIL import Image

    made, axes = plots.figure(columns=3, size=(9, 2.8))
    cells = np.random.default_rng(0).standard_normal((3, 6, 4))
    for ax, values in zip(axes[0], cells):
        plots.gradient_map(ax, values, "", list("abcdef"), list("wxyz"),
                           row_experts=[1, 2, 1, 0, 0, 1])
    made.canvas.draw()
    full = np.asarray(made.canvas.buffer_rgba())[..., :3].astype(int)
    small = np.asarray(Image.open(BytesIO(_small_png(made))).convert("RGB")).astype(int)
    colors, count = np.unique(full.reshape(-1, 3), axis=0, return_counts=True)
    flat = colors[np.argsort(-count)[:55]]
    for color in [*flat, *(255 * np.array(plots.expert_colors(3))).round().astype(int)]:
        here = (full == color).all(axis=-1)
        assert here.any() and (small[here] == color).all()


@pytest.mark.parametrize("k", [1, 2])
def test_routing_draws_each_choice_as_wide_as_its_gate(ax, k):
    probs, plan = toy_plan(k)
    gates_TK = np.take_along_axis(probs, plan.expert, axis=1)
    plots.routing(ax, plan.expert, gates_TK, plan.kept, 3)
    lines = ax.get_lines()
    assert len(lines) == 6 * k and texts(ax).count("×") == (~plan.kept).sum() > 0
    colors = plots.expert_colors(3)
    for line, (t, choice) in zip(lines, np.ndindex(6, k)):
        if plan.kept[t, choice]:
            assert line.get_color() == colors[plan.expert[t, choice]]
            np.testing.assert_allclose(line.get_linewidth(), 1 + 7 * gates_TK[t, choice])
        else:
            assert line.get_color() == "#777777" and line.get_linestyle() == "--"
        assert f"{gates_TK[t, choice]:.2f}" in texts(ax)
    hatched = [points.get_hatch() is not None for points in ax.collections[:6]]
    assert hatched == (~plan.kept.any(axis=1)).tolist()


def boxes(ax, hatch):
    return [box for box in ax.patches if box.get_hatch() == hatch]


@pytest.mark.parametrize(("k", "groups"), [(1, 1), (2, 1), (1, 2)])
def test_buffers_have_a_box_per_slot_and_per_dropped_choice(ax, k, groups):
    probs, _ = toy_plan()
    plan = plans.decide(probs, SwitchConfig(num_experts=3, top_k=k, capacity=2), num_groups=groups)
    plots.buffers(ax, plan)
    assert len(boxes(ax, None)) == len(plan.token)
    assert len(boxes(ax, "...")) == 3 * groups * plan.capacity - len(plan.token)
    assert len(boxes(ax, "//////")) == plan.load.sum() - len(plan.token)
    assert all(box.get_x() >= plan.capacity for box in boxes(ax, "//////"))
    assert all(box.get_x() < plan.capacity for box in boxes(ax, None) + boxes(ax, "..."))
    assert ax.get_lines()[0].get_xdata()[0] == pytest.approx(plan.capacity, abs=0.05)
    for t, choice in zip(plan.token, plan.choice):
        at = next(text.get_position() for text in ax.texts if text.get_text() == f"t{t}"
                  and text.get_position()[0] < plan.capacity)
        assert choice or int(at[0]) == plan.slot[t, 0]


def test_buffers_take_names_and_no_room_at_all(ax):
    plots.buffers(ax, plans.fill(np.array([[0], [1]]), 2, capacity=0), names=["one", "two"])
    assert texts(ax) == ["one", "expert 0", "two", "expert 1"]
    assert len(boxes(ax, "//////")) == len(ax.patches) == 2


def test_buffers_leave_out_slots_that_no_token_can_fill(ax):
    plots.buffers(ax, plans.fill(np.array([[0], [1], [1]]), 2, capacity=2 ** 62))
    assert len(boxes(ax, None)) == len(boxes(ax, "...")) == 3
    assert ax.get_xlabel() == f"slot of {2 ** 62}" and not ax.get_lines()


def test_load_bars_hatch_what_lies_past_the_capacity(ax):
    plots.load_bars(ax, np.array([3, 2, 1]), 2, np.array([2.5, 2.5, 1.0]))
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == [2, 2, 1, 1, 0, 0]
    assert [bar.get_hatch() for bar in ax.patches] == [None] * 3 + ["//////"] * 3
    assert [tuple(bar.get_facecolor()[:3]) for bar in ax.patches[:3]] == plots.expert_colors(3)
    assert ax.get_lines()[0].get_ydata()[0] == 2
    assert ax.get_lines()[1].get_ydata().tolist() == [2.5, 2.5, 1.0]
    assert "capacity 2" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_number_grid_writes_each_number_and_centres_a_signed_map_on_zero(ax):
    plots.number_grid(ax, np.array([[1.0, -0.25], [0.0, 0.5]]), "token", "expert", signed=True)
    assert texts(ax) == ["+1.00", "-0.25", "0", "+0.50"]
    assert (ax.images[0].norm.vmin, ax.images[0].norm.vmax) == (-1, 1)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("token", "expert")
    assert [text.get_color() for text in ax.texts] == ["white", "black", "black", "black"]


def test_number_grid_of_zeros_and_of_probabilities(ax):
    plots.number_grid(ax, np.zeros((2, 2)), "token", "expert", signed=True)
    assert texts(ax) == ["0"] * 4
    other = plots.figure()[1][0, 0]
    plots.number_grid(other, np.array([[0.25, 0.75, 0.001, 0.0]]), "token", "expert")
    assert texts(other) == ["0.25", "0.75", "≈0", "0"]


def test_token_plane_colours_sectors_and_moves_tokens(ax):
    x, w_router = np.array([[1.0, 0.0], [-1.0, 0.5]]), np.array([[1.0, -1.0], [0.0, 0.0]])
    plots.token_plane(ax, x, w_router, np.array([0, 1]), np.array([[1.0, 0.0], [-1.0, 1.0]]))
    shown, colors = ax.images[0].get_array(), plots.expert_colors(2)
    assert tuple(shown[0, -1]) == colors[0] and tuple(shown[0, 0]) == colors[1]
    assert texts(ax) == ["t0", "", "t1"]                        # "" is t1's arrow
    assert [points.get_hatch() for points in ax.collections] == ["//////", None]


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


def test_balance_surface_is_the_loss_of_two_experts(ax):
    plots.balance_surface(ax, {"uniform": (0.5, 0.5), "lowest": (0.75, 0.375)})
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["out of reach", "uniform", "lowest"]
    cells = np.random.default_rng(0).dirichlet([1, 1], (50, 40))
    for probs in cells:                                         # no batch lies out of reach
        plan = plans.decide(probs, SwitchConfig(num_experts=2))
        f, p = plan.load[0, 0] / 40, probs[:, 0].mean()
        assert f / 2 <= p <= (1 + f) / 2
        value, _ = balance_loss.forward(probs, plan)
        np.testing.assert_allclose(value, 2 * (f * p + (1 - f) * (1 - p)))


# Notebooks 04 and 05.

def test_gradient_map_is_centred_on_zero_and_leaves_exact_zeros_blank(ax):
    values = np.array([[-2.0, 0.0, 0.5], [0.0, 0.0, 1e-9]])
    plots.gradient_map(ax, values, "finding", ["token 0", "token 1"], ["e0", "e1", "e2"],
                       row_experts=[2, 0], column_experts=range(3), hatched=[1])
    low, high = ax.images[0].get_clim()
    assert (low, high) == (-2.0, 2.0) and ax.images[0].get_cmap().name == "RdBu_r"
    drawn = {text.get_position(): text.get_text() for text in ax.texts}
    assert drawn == {(0, 0): "-2.00", (2, 0): "+0.50", (2, 1): "+0.00"}
    boxes = [label.get_bbox_patch().get_facecolor()[:3] for label in ax.get_yticklabels()]
    assert boxes == [plots.expert_colors(3)[2], plots.expert_colors(3)[0]]
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    assert [(patch.get_y(), patch.get_width()) for patch in hatched] == [(0.5, 3)]
    assert ax.get_title() == "finding"


def test_gradient_map_of_zeros_has_a_scale(ax):
    plots.gradient_map(ax, np.zeros((2, 2)), "", ["a", "b"], ["c", "d"])
    assert ax.images[0].get_clim() == (-1.0, 1.0) and not ax.texts


def test_gradient_maps_share_a_limit(ax):
    plots.gradient_map(ax, np.array([[0.5]]), "", ["a"], ["b"], limit=3.0)
    assert ax.images[0].get_clim() == (-3.0, 3.0)


def test_heat_table_is_in_per_cent(ax):
    plots.heat_table(ax, np.array([[0.25, 0.75], [1.0, 0.0]]), "finding", ["expert 0", "all"],
                     ["a-z", "0-9"], row_experts=[0])
    assert [text.get_text() for text in ax.texts] == ["25", "75", "100", "0"]
    assert ax.images[0].get_clim() == (0, 1) and ax.get_xlabel() == "% of the row"
    expert, all_bytes = ax.get_yticklabels()
    assert expert.get_bbox_patch().get_facecolor()[:3] == plots.expert_colors(1)[0]
    assert all_bytes.get_bbox_patch() is None


# Notebook 06.

def test_right_and_wrong_share_a_scale_and_leave_rounding_blank():
    axes = plots.figure(columns=3)[1][0]
    right = np.array([[1.0, 0.0], [-0.5, 0.25]])
    wrong = np.array([[1.0 + 1e-15, 0.0], [-0.5, 3.0]])
    plots.right_and_wrong(axes, right, wrong, "d_w", ["a", "b"], ["c", "d"])
    assert [ax.images[0].get_clim() for ax in axes] == [(-3.0, 3.0)] * 3
    assert {text.get_position(): text.get_text() for text in axes[2].texts} == {(1, 1): "+2.75"}
    assert [ax.get_title() for ax in axes] == ["d_w, right", "d_w, wrong",
                                               "the error: wrong − right"]


def test_right_and_wrong_names_what_is_no_number():
    axes = plots.figure(columns=3)[1][0]
    plots.right_and_wrong(axes, np.ones((1, 2)), np.array([[np.nan, 2.0]]), "d_w", ["a"],
                          ["b", "c"])
    assert axes[1].images[0].get_clim() == (-2.0, 2.0)
    assert [text.get_text() for text in axes[1].texts] == ["+nan", "+2.00"]


def test_escapes_are_dotted_and_counted(ax):
    through = np.array([[True, False], [True, True], [False, False]])
    plots.escapes(ax, through, "finding", ["bug a", "bug b", "bug c"], ["loose", "tight"])
    dots = ax.get_lines()[0]
    assert list(zip(dots.get_ydata(), dots.get_xdata())) == [(0, 0), (1, 0), (1, 1)]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["loose: 2", "tight: 1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bug a", "bug b", "bug c"]
    assert ax.get_title() == "finding"


# Notebook 07.

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


def test_a_small_label_keeps_its_expert_s_colour_beside_many_shades():
    from io import BytesIO

    from PIL import Image
    from switch_np.plots.canvas import _small_png

    made, axes = plots.figure(columns=4, size=(10, 3))
    for ax, values in zip(axes[0], np.random.default_rng(0).standard_normal((4, 8, 4))):
        plots.gradient_map(ax, values, "", [f"d{d}" for d in range(8)],
                           [f"e{e}" for e in range(4)], column_experts=range(4))
    shown = np.asarray(Image.open(BytesIO(_small_png(made))).convert("RGB")).astype(int)
    for color in plots.expert_colors(4):
        same = (shown == np.round(255 * np.array(color))).all(axis=2)
        assert np.count_nonzero(same) > 4 * 50
