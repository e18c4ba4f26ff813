"""Intervals and grades: the rule, and how often it is wrong about nothing."""

import numpy as np

from switch_np.experiments import statistics


def test_the_grade_is_where_the_interval_lies():
    assert statistics.measure(np.array([0.1, 0.2, 0.15])).grade == "holds"
    assert statistics.measure(np.array([-0.1, -0.2, -0.15])).grade == "contradicted"
    assert statistics.measure(np.array([0.1, -0.2, 0.15])).grade == "cannot tell"
    assert statistics.measure(np.array([-0.01, -0.02, -0.015]), margin=0.05).grade == "holds"
    assert statistics.measure(np.array([-0.1, -0.11, -0.1]), margin=0.05).grade == "contradicted"


def test_one_seed_or_a_run_that_diverged_cannot_tell():
    for differences in ([], [0.5], [0.5, 0.6, np.nan]):
        assert statistics.measure(np.array(differences)).grade == "cannot tell"


def test_an_interval_misses_the_truth_once_in_twenty():
    rng = np.random.default_rng(0)
    for seeds in (3, 5, 10):
        drawn = rng.standard_normal((20_000, seeds))
        half = statistics.interval(seeds) * drawn.std(axis=1, ddof=1)
        missed = (abs(drawn.mean(axis=1)) > half).mean()
        assert abs(missed - 0.05) < 0.006, (seeds, missed)
