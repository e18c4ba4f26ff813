"""Rows that the experts misread are named: outputs computed here row by row."""

import re

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, oracle

ASKED, REF = problem(SwitchConfig(num_experts=4, top_k=2, capacity=20), 48, precision="float32")
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


@pytest.mark.parametrize("which, words", [(-1, "last"), (0, "first")])
def test_a_slot_that_dropped_choices_read_is_named(which, words):
    y = y_of(CHOICES, [X[t] for t, _ in CHOICES])
    for t, k in np.argwhere(~PLAN.kept):
        e = PLAN.expert[t, k]
        mine = [at for at, owner in zip(CHOICES, OWNER) if owner == e]
        other = sorted(mine, key=PLAN.slot.__getitem__)[which][0]
        y[t] += REF.gates[t, k] * (np.maximum(X[other] @ W["w_in"][e], 0) @ W["w_out"][e])
    assert first_line(y) == (
        f"y: dropped choices get the output in their expert's {words} slot, want 0")


@pytest.mark.parametrize("k", [1, 2])
def test_a_permutation_that_is_not_inverted_is_named(k):
    """d_x through the experts, a row for each choice, sorted by expert twice."""
    asked, ref = problem(SwitchConfig(num_experts=4, top_k=k, capacity_factor=None), 24)
    w, pairs, outs = asked["params"], [], []
    for t, choice in np.ndindex(24, k):
        e = ref.plan.expert[t, choice]
        before = asked["x"][t] @ w["w_in"][e]
        d_hidden = ref.gates[t, choice] * asked["d_y"][t] @ w["w_out"][e].T
        pairs.append((d_hidden * (before > 0)) @ w["w_in"][e].T)
        outs.append(np.maximum(before, 0) @ w["w_out"][e])
    order = np.argsort(ref.plan.expert.ravel(), kind="stable")
    pairs, outs = np.array(pairs), np.array(outs)
    rest = ref.grads["x"] - pairs.reshape(24, k, -1).sum(axis=1)
    wrong = {"d_x": rest + pairs[order][order].reshape(24, k, -1).sum(axis=1),
             "y": (ref.gates[..., None] * outs[order][order].reshape(24, k, -1)).sum(axis=1)}
    words = "the rows come back by the permutation that sorted them by expert, not by its inverse"
    assert oracle.compare(ref, y=wrong["y"]).diagnosis[0] == f"y: {words}"
    assert oracle.compare(ref, y=ref.y, grads={"x": wrong["d_x"]}).diagnosis[0] == f"d_x: {words}"


def test_few_wrong_tokens_are_listed():
    wrong = y_of(CHOICES, [X[t] for t, _ in CHOICES])
    wrong[[7, 30]] += np.random.default_rng(0).standard_normal((2, 8))
    assert re.match(r"unknown: y is wrong only in 2 of 48 tokens \(token 7, expert.*; 30\)",
                    first_line(wrong))
