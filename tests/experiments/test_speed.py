"""Timings in turns."""

from functools import partial

import numpy as np
import pytest

from switch_np.experiments import results, speed


def test_a_model_twice_the_work_takes_longer_whatever_the_order():
    small, large = (partial(np.linalg.svd, np.random.default_rng(0).random((n, n)))
                    for n in (30, 90))
    for steps in ({"small": small, "large": large}, {"large": large, "small": small}):
        found = speed.compare(steps, "small", 11)
        assert found["small"][1:] == (1, 0, 9)                   # without the outer rounds
        assert 2 < found["large"].ratio and found["large"].half < found["large"].ratio
    with pytest.raises(ValueError, match="base must be one of 'small', got 'none'"):
        speed.compare({"small": small}, "none", 3)


def test_the_gap_between_two_steps_has_an_interval():
    timings = results.table([
        {"arm": arm, "layout": layout, "ratio": ratio, "half": half, "rounds": 9}
        for arm, layout, ratio, half in (
            ("moe", "packed", 1.5, 0.03), ("switch", "packed", 1.2, 0.04),
            ("switch", "buffers", 1.4, 0.1))])
    gap = speed.gap(timings, "moe", "switch", "packed")
    assert np.allclose(gap[:2], [0.3, 0.05]) and gap.grade == "holds"
    assert str(gap) == "+0.300 ± 0.050: holds" and gap.words == "9 rounds"
    assert speed.gap(timings, "switch", "moe", "packed").grade == "contradicted"
    assert speed.gap(timings, "moe", "switch", "buffers").grade == "cannot tell"   # not timed
