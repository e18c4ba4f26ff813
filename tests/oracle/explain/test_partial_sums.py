"""Sums over the wrong rows are named: gradients summed here row by row."""

from itertools import chain

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, oracle

ASKED, REF = problem(SwitchConfig(num_experts=4, top_k=2, capacity_factor=None), 48,
                     precision="float32")
W, X, D_Y = ASKED["params"], ASKED["x"], ASKED["d_y"]


def rows_of(e):
    """Return an expert's rows: the token, what it adds to d_w_in, and to the token's d_x."""
    found = []
    for t, k in np.argwhere(REF.plan.expert == e):
        d_before = REF.gates[t, k] * D_Y[t] @ W["w_out"][e].T * (X[t] @ W["w_in"][e] > 0)
        found.append((t, np.outer(X[t], d_before), d_before @ W["w_in"][e].T))
    return found


ROWS = [rows_of(e) for e in range(4)]


def of_tokens(some):
    return [[row for row in rows if row[0] in some] for rows in ROWS]


def of_neighbours(tile, shift):
    """Return as many rows as each expert has, from another first row in the row of all rows."""
    every, start, found = list(chain(*ROWS)), 0, []
    for rows in ROWS:
        first = max(start // tile * tile - shift, 0)
        found.append(every[first:first + len(rows)])
        start += len(rows)
    return found


def up_to(tile):
    """Return each expert's rows and those after them, as many as fill the last tile."""
    every, start, found = list(chain(*ROWS)), 0, []
    for rows in ROWS:
        found.append(every[start:start + -(-len(rows) // tile) * tile])
        start += len(rows)
    return found


def d_w_in(used):
    return np.stack([sum((d for _, d, _ in rows), np.zeros((8, 12))) for rows in used])


def first_line(name, grad):
    return oracle.compare(REF, y=REF.y, grads={name: grad.astype(np.float32)}).diagnosis[0]


def test_the_sum_over_all_rows_is_right():
    assert oracle.compare(REF, grads={"w_in": d_w_in(ROWS)}).ok


@pytest.mark.parametrize("used, words", [
    (of_tokens(range(24)), "sums only over the first half of the tokens"),
    (of_tokens(range(24, 48)), "sums only over the second half of the tokens"),
    (of_tokens(range(12)), "sums only over the first quarter of the tokens"),
    ([rows[:len(rows) // 8 * 8] for rows in ROWS],
     "sums over rows without each expert's last rows, those beyond a multiple of 8"),
    (of_neighbours(8, 0),
     "sums over rows from a multiple of 8 on, not from each expert's own first row"),
    (of_neighbours(1, 3), "sums over rows from 3 rows too early"),
    (up_to(8), "sums over rows up to a multiple of 8, and so the next expert's too"),
    ([rows[len(rows) // 2:] for rows in ROWS],
     "sums over rows of each expert's second half alone"),
])
def test_a_sum_over_the_wrong_rows_is_named(used, words):
    assert first_line("w_in", d_w_in(used)) == f"d_w_in {words}"


def test_experts_with_tokens_and_no_gradient_are_always_told():
    wrong = np.random.default_rng(0).standard_normal((4, 8, 12)) * [[[1]], [[0]], [[0]], [[1]]]
    assert first_line("w_in", wrong) == (
        "d_w_in is zero for experts that have tokens (1, 2): their rows are lost")


def test_choices_that_are_lost_in_d_x_are_named():
    wrong, lost = REF.grads["x"].copy(), list(chain(*of_tokens(range(24))[2:]))
    for t, _, d_x in lost:
        wrong[t] -= d_x
    assert first_line("x", wrong).startswith(
        f"d_x lacks the gradient through {len(lost)} of 96 choices of experts, such as token")


def y_with(hidden, d_model, **options):
    """Return a reference, and y if these are the hidden units of a row and an expert's weights."""
    asked, ref = problem(SwitchConfig(num_experts=4, top_k=2, capacity_factor=None, **options), 48,
                         d_model, 20, precision="float32")
    y, w = np.zeros_like(asked["x"]), asked["params"]
    for t, k in np.ndindex(*ref.plan.expert.shape):
        e = ref.plan.expert[t, k]
        y[t] += ref.gates[t, k] * hidden(asked["x"][t], w["w_in"][e]) @ w["w_out"][e]
    return ref, y.astype(np.float32)


@pytest.mark.parametrize("hidden, words", [
    (lambda x, w: np.maximum(x @ w, 0), None),
    (lambda x, w: np.maximum(x[:8] @ w[:8], 0),
     "the sums over the 12 features stop at 8, the last multiple of 8"),
    (lambda x, w: np.maximum(x @ w, 0) * (np.arange(20) < 16),
     "the sums over the 20 hidden units stop at 16, the last multiple of 16"),
    (lambda x, w: np.maximum(x[:6] @ w[:6], 0) + np.maximum(x[6:] @ w[6:], 0),
     "the activation is taken of each half of the sum over the features, not of all of it"),
])
def test_sums_cut_short_or_split_are_named(hidden, words):
    ref, y = y_with(hidden, d_model=12)
    report = oracle.compare(ref, y=y)
    assert report.ok if words is None else report.diagnosis[0] == f"y: {words}"


@pytest.mark.parametrize("name", ["w_in", "w_gate"])
def test_a_half_of_d_x_that_is_lost_is_named(name):
    """Of a gated expert: the derivative is taken with one of the two products held fixed."""
    asked, ref = problem(SwitchConfig.like("hf_mixtral", num_experts=4), 24)
    w, wrong = asked["params"], ref.grads["x"].copy()
    for t, k in np.ndindex(*ref.plan.expert.shape):
        e = ref.plan.expert[t, k]
        linear, gate = (asked["x"][t] @ w[key][e] for key in ("w_in", "w_gate"))
        d_hidden = ref.gates[t, k] * asked["d_y"][t] @ w["w_out"][e].T
        share = 1 / (1 + np.exp(-gate))
        slope = {"w_in": gate * share, "w_gate": linear * share * (1 + gate * (1 - share))}[name]
        wrong[t] -= w[name][e] @ (d_hidden * slope)
    report = oracle.compare(ref, y=ref.y, grads={"x": wrong})
    assert report.diagnosis == (f"d_x lacks what comes back through {name}",)


def test_empty_slots_in_a_bias_gradient_are_named():
    config = SwitchConfig.like("paper", num_experts=4, capacity_factor=1.25, expert_biases=True)
    asked, ref = problem(config)
    row = ref.gates[0, 0] * asked["d_y"][0]                   # the index of an empty slot is 0
    empty = ref.plan.capacity - ref.plan.kept_load[0]
    wrong = ref.grads["b_out"] + np.outer(empty, row)
    report = oracle.compare(ref, grads={"b_out": wrong})
    assert report.diagnosis == ("d_b_out counts the empty slots of each expert's buffer too",)
