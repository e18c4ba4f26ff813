"""Rows that the experts misread are named: outputs computed here row by row."""

import numpy as np
import pytest

import switch_np as snp
from switch_np import oracle

CONFIG = snp.SwitchConfig(num_experts=4, top_k=2, capacity=20)
ASKED = oracle.draw(CONFIG, 48, d_model=8, d_ff=12, precision="float32")
REF = oracle.reference(**ASKED)
W, X, PLAN = ASKED["params"], ASKED["x"], REF.plan
CHOICES = [(t, k) for e in range(4) for t, k in np.argwhere((PLAN.expert == e) & PLAN.kept)]
OWNER = [PLAN.expert[t, k] for t, k in CHOICES]


def y_of(choices, read):
    """Return y if row r, of the expert that owns it, is `read[r]` and counts for `choices[r]`."""
    y = np.zeros_like(X)
    for e, (t, k), row in zip(OWNER, choices, read):
        y[t] += REF.gates[t, k] * (np.maximum(row @ W["w_in"][e], 0) @ W["w_out"][e])
    return y


def first_line(y):
    return oracle.compare(REF, y=y.astype(np.float32)).diagnosis[0]


def test_the_rows_are_right_and_some_are_dropped():
    assert oracle.compare(REF, y=y_of(CHOICES, [X[t] for t, _ in CHOICES])).ok
    assert not PLAN.kept.all()


def test_a_stride_of_one_is_named():
    flat = np.concatenate([X[t] for t, _ in CHOICES])
    read = [flat[r:r + 8] for r in range(len(CHOICES))]
    assert first_line(y_of(CHOICES, read)).startswith("y: row r of the experts' input starts at")


def test_dropped_choices_at_the_head_are_named():
    dropped = [tuple(at) for at in np.argwhere(~PLAN.kept)]
    shifted = (dropped + CHOICES)[:len(CHOICES)]
    assert "shifted by the number of dropped choices" in first_line(
        y_of(shifted, [X[t] for t, _ in shifted]))


@pytest.mark.parametrize("shift, words", [(1, "1 before"), (-2, "2 after")])
def test_a_constant_shift_is_named(shift, words):
    moved = CHOICES[-shift:] + CHOICES[:-shift]
    own = [X[t] for t, _ in CHOICES]
    assert first_line(y_of(moved, [X[t] for t, _ in moved])) == (
        f"y: each expert's rows are those {words} its own")
    assert first_line(y_of(moved, own)) == (
        f"y: the experts' outputs go to the rows {words} their own")
