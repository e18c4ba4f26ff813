"""Sums over the wrong rows are named: gradients summed here row by row."""

import numpy as np
import pytest

import switch_np as snp
from switch_np import oracle

CONFIG = snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=None)
ASKED = oracle.draw(CONFIG, 48, d_model=8, d_ff=12, precision="float32")
REF = oracle.reference(**ASKED)
W, X, D_Y, EXPERT = ASKED["params"], ASKED["x"], ASKED["d_y"], REF.plan.expert


def rows(e):
    """Return each row of an expert in the order of its tokens: x, the gradient before ReLU, d_x."""
    found = []
    for t, k in np.argwhere(EXPERT == e):
        before = X[t] @ W["w_in"][e]
        d_before = REF.gates[t, k] * D_Y[t] @ W["w_out"][e].T * (before > 0)
        found.append((t, k, X[t], d_before, d_before @ W["w_in"][e].T))
    return found


def d_w_in(use):
    """Return d_w_in from the rows that `use(t, k, number of the row)` lets in."""
    return np.stack([sum((np.outer(x, d) for i, (t, k, x, d, _) in enumerate(rows(e))
                          if use(t, k, i)), np.zeros((8, 12))) for e in range(4)])


def first_line(name, grad):
    return oracle.compare(REF, y=REF.y, grads={name: grad.astype(np.float32)}).diagnosis[0]


def test_the_sum_over_all_rows_is_right():
    assert oracle.compare(REF, grads={"w_in": d_w_in(lambda t, k, i: True)}).ok


@pytest.mark.parametrize("use, words", [
    (lambda t, k, i: t < 24, "d_w_in is that of the first half of the tokens alone"),
    (lambda t, k, i: t >= 24, "d_w_in is that of the second half of the tokens alone"),
    (lambda t, k, i: t < 12, "d_w_in is that of the first quarter of the tokens alone"),
])
def test_a_part_of_the_tokens_is_named(use, words):
    assert first_line("w_in", d_w_in(use)) == words


def test_rows_beyond_the_last_whole_tile_are_named():
    counts = [len(rows(e)) for e in range(4)]
    short = np.stack([sum((np.outer(x, d) for _, _, x, d, _ in rows(e)[:counts[e] // 8 * 8]),
                          np.zeros((8, 12))) for e in range(4)])
    assert first_line("w_in", short) == (
        "d_w_in sums over rows without each expert's last rows, beyond a multiple of 8")


@pytest.mark.parametrize("tile, shift, words", [
    (8, 0, "from 8 rows' boundaries, not from each expert's own first row"),
    (1, 3, "from 3 rows too early")])
def test_rows_of_a_neighbour_are_named(tile, shift, words):
    every = [row for e in range(4) for row in rows(e)]
    wrong, start = [], 0
    for e in range(4):
        n, first = len(rows(e)), max(start // tile * tile - shift, 0)
        wrong.append(sum(np.outer(x, d) for _, _, x, d, _ in every[first:first + n]))
        start += n
    assert first_line("w_in", np.stack(wrong)) == f"d_w_in sums over rows {words}"


def test_experts_with_tokens_and_no_gradient_are_always_told():
    wrong = np.random.default_rng(0).standard_normal((4, 8, 12)) * [[[1]], [[0]], [[0]], [[1]]]
    assert first_line("w_in", wrong) == (
        "d_w_in is zero for experts that have tokens (1, 2): their rows are lost")


def test_choices_that_are_lost_in_d_x_are_named():
    wrong, lost = REF.grads["x"].copy(), 0
    for e in (2, 3):
        for t, _, _, _, d_x in rows(e):
            if t < 24:
                wrong[t] -= d_x
                lost += 1
    assert first_line("x", wrong).startswith(
        f"d_x lacks what comes back through {lost} of 96 choices of experts, as token")
