"""Pictures of one batch: routing, buffers, loads, numbers and planes."""

import numpy as np
import pytest

from switch_np import SwitchConfig, plots
from switch_np.switch import balance_loss, plan as plans


def texts(ax):
    return [text.get_text() for text in ax.texts]


def toy_plan(k=1, **options):
    probs = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.9, 0.0, 0.1], [0.2, 0.1, 0.7],
                      [0.7, 0.2, 0.1], [0.1, 0.5, 0.4]])
    return probs, plans.decide(probs, SwitchConfig(num_experts=3, top_k=k, capacity_factor=1.0,
                                                   **options))


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
    assert {text.get_color() for text in other.texts} == {"black"}     # half are zeros: not pale


def test_token_plane_colours_sectors_and_moves_tokens(ax):
    x, w_router = np.array([[1.0, 0.0], [-1.0, 0.5]]), np.array([[1.0, -1.0], [0.0, 0.0]])
    plots.token_plane(ax, x, w_router, np.array([0, 1]), np.array([[1.0, 0.0], [-1.0, 1.0]]))
    shown, colors = ax.images[0].get_array(), plots.expert_colors(2)
    assert tuple(shown[0, -1]) == colors[0] and tuple(shown[0, 0]) == colors[1]
    assert texts(ax) == ["t0", "", "t1"]                        # "" is t1's arrow
    assert [points.get_hatch() for points in ax.collections] == ["//////", None]


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
