"""Timings in turns."""

from functools import partial

import numpy as np
import pytest

from switch_np.experiments import speed


def test_a_model_twice_the_work_takes_longer_whatever_the_order():
    small, large = (partial(np.linalg.svd, np.random.default_rng(0).random((n, n)))
                    for n in (30, 90))
    for steps in ({"small": small, "large": large}, {"large": large, "small": small}):
        found = speed.compare(steps, "small", 11)
        assert found["small"][1:] == (1, 1, 1)
        assert 2 < found["large"].low <= found["large"].ratio <= found["large"].high
    with pytest.raises(ValueError, match="base must be one of 'small', got 'none'"):
        speed.compare({"small": small}, "none", 3)
