"""Rounding to bfloat16 and float16: against a search for the nearest, and against `ml_dtypes`."""

import numpy as np
import pytest

from switch_np.operations.precision import round_to
from switch_np.operations.roundoff import named

HALVES = ["bfloat16", "float16"]
FLOATS = [np.float32, np.float64]


def numbers(name):
    """Return every finite number of a half precision once, in order, in float64."""
    bits = np.arange(2 ** 16, dtype=np.uint16)
    wide = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    values = bits.view(np.float16) if name == "float16" else wide
    return np.unique(values[np.isfinite(values)].astype(np.float64))


def nearest(x, name):
    """Return the nearest number of the precision for each x, found by search; at a tie the even."""
    values = numbers(name)
    last_step = values[-1] - values[-2]
    values = np.concatenate([[values[0] - last_step], values, [values[-1] + last_step]])
    above = np.clip(np.searchsorted(values, x), 1, len(values) - 1)
    low, high = values[above - 1], values[above]
    middle = low / 2 + high / 2
    even_below = (above - 1 - np.flatnonzero(values == 0)[0]) % 2 == 0
    found = np.where((x < middle) | ((x == middle) & even_below), low, high)
    found = np.where(abs(found) > values[-2], np.inf, abs(found))
    return np.copysign(found, x)


def probes(name, dtype, rng):
    """Return all numbers of a precision, all ties, what lies just beside these, and others."""
    values = numbers(name)
    largest, step = values[-1], values[-1] - values[-2]
    ends = largest + step * np.array([0.25, 0.5, 0.75, 1, 2])
    some = np.concatenate([values, values[:-1] / 2 + values[1:] / 2, ends, -ends,
                           [np.inf, -np.inf, 0.0, -0.0, np.finfo(np.float32).max]])
    with np.errstate(over="ignore"):
        some = some.astype(dtype)
        beside = [np.nextafter(some, dtype(to)) for to in (-np.inf, np.inf)]
        many = np.ldexp(rng.standard_normal(100_000), rng.integers(-155, 130, 100_000))
        return np.concatenate([some, *beside, many.astype(dtype)])


def same(got, want):
    """Whether two arrays hold the same numbers, the sign of a zero included."""
    return np.array_equal(got, want) and np.array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", HALVES)
def test_the_nearest_number_wins_and_at_a_tie_the_even_one(name, dtype):
    x = probes(name, dtype, np.random.default_rng(0))
    got = round_to(x, name)
    assert got.dtype == dtype
    assert same(got.astype(np.float64), nearest(x.astype(np.float64), name))
    assert same(round_to(got, name), got)
    in_order = round_to(np.sort(x), name)
    assert (in_order[1:] >= in_order[:-1]).all()


@pytest.mark.parametrize("name", HALVES)
def test_the_ends_are_those_of_the_table(name):
    values = numbers(name)
    assert (values[-1], values[values > 0][0]) == (named(name).largest, named(name).smallest)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", HALVES)
def test_nan_stays_nan_whatever_its_bits(name, dtype):
    bits = {np.float32: np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32),
            np.float64: np.array([0x7FF0000000000001, 0xFFF0000000000001, 2 ** 63 - 1, 2 ** 64 - 1],
                                 np.uint64)}[dtype]
    with np.errstate(invalid="ignore"):
        got = round_to(np.append(bits.view(dtype), dtype(1.0)), name)
    assert np.isnan(got[:-1]).all() and got[-1] == 1


@pytest.mark.parametrize("name", HALVES)
def test_any_shape_and_stride_and_the_input_stays(name):
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    before = x.copy()
    x.flags.writeable = False
    got = round_to(x, name)
    assert np.array_equal(x, before) and not np.array_equal(x, got)
    assert np.array_equal(round_to(x.T[::2], name), got.T[::2])
    assert round_to(x[0, 0, None].reshape(()), name) == got[0, 0]
    assert round_to(x[:0], name).shape == (0, 6)


def test_what_has_room_is_handed_back():
    for dtype, name in ((np.float32, "float32"), (np.float32, "float64"), (np.float64, "float64")):
        x = np.array([np.pi], dtype)
        assert round_to(x, name) is x
    assert round_to(x, "float32").tolist() == [float(np.float32(np.pi))]


@pytest.mark.parametrize("x, name, error, words", [
    (np.array([1j]), "bfloat16", TypeError, "x must be real to be rounded to bfloat16, got comple"),
    (np.array([1]), "bfloat16", TypeError, "x must hold float32 or float64 numbers, got int64"),
    (1.0, "bfloat16", TypeError, r"x must be a NumPy array, got 1\.0"),
    (np.array([1.0]), "bf16", ValueError, "precision must be one of 'float64'.* got 'bf16'")])
def test_what_cannot_be_rounded_is_refused(x, name, error, words):
    with pytest.raises(error, match=words):
        round_to(x, name)


@pytest.mark.crosscheck
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", HALVES)
def test_ml_dtypes_gives_the_same(name, dtype):
    half = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name, name))
    bits = np.random.default_rng(1).integers(0, 2 ** 32, 1_000_000, dtype=np.uint32)
    with np.errstate(invalid="ignore", over="ignore"):
        many = np.append(bits.view(np.float32).astype(dtype),
                         probes(name, dtype, np.random.default_rng(2)))
        # float64 goes by way of float32 there, and is rounded twice: compare where that is exact.
        many = many[(many.astype(np.float32) == many) | np.isnan(many)]
        want, got = many.astype(half).astype(dtype), round_to(many, name)
    number = ~np.isnan(want)
    assert same(got[number], want[number]) and np.isnan(got[~number]).all()
