"""Messages name the argument, what came, and what is wanted."""

from collections.abc import Sequence

import numpy as np
import pytest

from switch_np.operations import check, signatures


@pytest.mark.parametrize("call, error, words", [
    (lambda: check.integer("n", True, 0), TypeError, "n must be a whole number, got True"),
    (lambda: check.integer("n", 1.0, 0), TypeError, "n must be a whole number, got 1.0"),
    (lambda: check.number("x", float("nan"), 0), ValueError, "x must be finite, at least 0, got n"),
    (lambda: check.number("x", "1"), TypeError, "x must be a number, got '1'"),
    (lambda: check.choice("c", "d", ["a", "b"]), ValueError, "c must be one of 'a', 'b', got 'd'"),
    (lambda: check.floats("x", [1.0], (1,)), TypeError, "x must be a NumPy array, got"),
    (lambda: check.floats("x", np.ones(2, int), (2,)), TypeError, "got int64"),
    (lambda: check.floats("x", np.ones(2, np.float16), (2,)), TypeError, "got float16"),
    (lambda: check.floats("x", np.ones(2), (2,), like=np.ones(1, np.float32)), TypeError,
     "x must be float32 like the rest, got float64"),
    (lambda: check.floats("x", np.array([1, np.inf]), (2,), finite=True), ValueError,
     r"x must be finite, got inf at \(1,\)"),
    (lambda: check.integers("i", np.array([0, 5]), (2,), 0, 5), ValueError,
     r"i must lie in 0 .. 4, got 5 at \(1,\)"),
    (lambda: check.booleans("m", np.ones(2), (2,)), TypeError, "m must be a NumPy array of bool"),
    (lambda: check.keys("p", {"a": 1}, {"b"}), ValueError, r"p must have the keys \['b'\]"),
])
def test_messages_name_the_argument_what_came_and_what_is_wanted(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_array_serves_as_a_sequence():
    @signatures.checked
    def first(rows: Sequence[int]) -> int:
        return rows[0]

    assert first(np.array([3, 4])) == first([3]) == 3
    with pytest.raises(TypeError, match="rows must be a Sequence, got 5"):
        first(5)
