"""Arrays that round: every operation of theirs, and what they refuse."""

import numpy as np
import pytest

from switch_np.operations import rounded
from switch_np.operations.precision import round_to


def on_grid(x, name="bfloat16"):
    return np.array_equal(round_to(np.array(x), name), x)


OPERATIONS = {
    "sum": lambda x, y: x.sum(axis=0), "product": lambda x, y: x * y, "scale": lambda x, y: x * 0.3,
    "matmul": lambda x, y: x @ y.T, "exp": lambda x, y: np.exp(x), "divide": lambda x, y: x / y,
    "einsum": lambda x, y: np.einsum("ij,ij->i", x, y), "plain first": lambda x, y: y[0] + x,
    "reduceat": lambda x, y: np.add.reduceat(x, [0, 2]), "all": lambda x, y: x.sum(),
    "root": lambda x, y: np.sqrt(abs(x)), "power": lambda x, y: x ** 2,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_each_result_is_that_of_the_wide_dtype_rounded_once(rng, operation, name, dtype):
    x, y = rng.standard_normal((2, 4, 3)).astype(dtype)
    entered = rounded.enter(x, name)
    got = operation(entered, y)
    assert type(got) is rounded.KINDS[name] and got.dtype == dtype
    assert np.array_equal(got, round_to(np.asarray(operation(rounded.plain(entered), y)), name))
    assert not on_grid(operation(x, y), name)                # or the test would show nothing


def test_results_that_are_written_somewhere_are_rounded_too(rng):
    x = rounded.enter(rng.standard_normal((4, 3)).astype(np.float32), "bfloat16")
    there = np.zeros((4, 3), np.float32)
    there += x / 3
    assert on_grid(there) and there.any() and type(there) is np.ndarray
    inside = x.copy()
    np.exp(inside, out=inside)
    inside -= 0.1
    assert on_grid(inside)
    rounding = rounded.enter(np.zeros((4, 4), np.float32), "bfloat16")
    np.matmul(rounded.plain(x), rounded.plain(x).T, out=rounding)      # the output alone rounds
    assert on_grid(rounding) and rounding.any()


def test_whole_numbers_and_truth_values_stay_plain(rng):
    x = rounded.enter(rng.standard_normal((4, 3)).astype(np.float32), "bfloat16")
    assert type(x > 0) is np.ndarray and (x > 0).dtype == bool
    assert all(type(places) is np.ndarray and places.dtype == np.int64 for places in (
        x.argmax(axis=1), x.argsort(axis=1), np.argsort(-x, axis=1, kind="stable")))
    assert np.where(x > 0, 1, 2).dtype == np.int64
    assert type(np.where(x > 0, x, 0.1)) is type(np.concatenate([x, x])) is type(x)
    assert on_grid(np.where(x > 0, x, np.float32(0.1)))
    assert type(np.zeros_like(x)) is type(x[0]) is type(x.T) is type(x.reshape(-1)) is type(x)


def test_cast_goes_both_ways_and_does_nothing_where_there_is_nothing_to_do(rng):
    x = rng.standard_normal(5).astype(np.float32)
    entered = rounded.cast(x, like=rounded.enter(x, "bfloat16"))
    assert type(entered) is rounded.Bfloat16 and on_grid(entered) and not on_grid(x)
    back = rounded.cast(entered, like=x)
    assert type(back) is np.ndarray and np.array_equal(back, entered)
    assert not on_grid(back * x)                                      # it rounds no more
    assert rounded.cast(entered, like=entered) is entered and rounded.cast(x, like=x) is x
    other = rounded.cast(entered, like=rounded.enter(x, "float16"))
    assert type(other) is rounded.Float16 and np.array_equal(other, entered)


def test_what_cannot_be_rounded_is_refused(rng):
    x = rounded.enter(rng.standard_normal((3, 3)).astype(np.float32), "bfloat16")
    with pytest.raises(TypeError, match="x must be real to be rounded to bfloat16"):
        rounded.enter(np.array([1j]), "bfloat16")
    with pytest.raises(TypeError, match="must not meet complex numbers"):
        x * 1j
    with pytest.raises(TypeError, match="Bfloat16"):
        x + rounded.enter(np.ones((3, 3), np.float32), "float16")
    with pytest.raises(TypeError, match="Bfloat16"):
        np.modf(x)
    with pytest.raises(ValueError, match="precision must be one of 'bfloat16', 'float16'"):
        rounded.enter(rounded.plain(x), "float32")
