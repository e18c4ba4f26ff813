"""Results as files and tables."""

import numpy as np
import pytest

from switch_np.experiments import results


def test_csv_files_are_read_as_they_were_written(tmp_path):
    rows = [{"arm": "a", "seed": 0, "bits": 2.123456789}, {"arm": "b", "seed": 1,
                                                           "bits": float("nan"), "more": 0.5}]
    results.write_csv(tmp_path / "x.csv", rows)
    assert (tmp_path / "x.csv").read_text() == "arm,seed,bits,more\na,0,2.12346,\nb,1,,0.5\n"
    columns = results.read_csv(tmp_path / "x.csv")
    assert columns["arm"].tolist() == ["a", "b"] and columns["seed"].tolist() == [0, 1]
    np.testing.assert_array_equal(columns["more"], [np.nan, 0.5])
    with pytest.raises(ValueError, match="results must be there, got none at"):
        results.read("y", tmp_path)


def test_steps_to_a_threshold():
    steps, values = np.array([5, 10, 15]), np.array([4.0, 3.0, 3.5])
    assert results.steps_to(steps, values, 4.5) == 5
    assert results.steps_to(steps, values, 3.5) == 7.5
    assert np.isnan(results.steps_to(steps, values, 2.9))
