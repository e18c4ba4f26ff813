"""The diagnosis as a whole: coarser precisions, and any convention."""

import numpy as np
import pytest
from oracle.problems import all_of, problem

from switch_np import SwitchConfig, oracle


def test_digits_that_differ_are_printed_and_experts_are_counted():
    _, ref = problem()
    got = all_of(ref, y=ref.y.astype(np.float32), w_in=ref.grads["w_in"].astype(np.float32))
    text = str(oracle.compare(ref, **got, precision="float64"))
    assert "only kept tokens" in text and "would pass as float32: is something" in text
    for line in text.splitlines():
        if line.startswith("  numbers"):
            got, want = line.partition("got ")[2].partition(";")[0].split(", want ")
            assert got != want and len(got) < 13
    wrong = ref.grads["w_in"] + (np.arange(4) < 2)[:, None, None]
    assert "only expert 0, 1" in str(oracle.compare(ref, grads={"w_in": wrong}))


@pytest.mark.parametrize("name", [
    "fairseq", "hf_deepseek_v3", pytest.param("nanomoe", marks=pytest.mark.thorough)])
def test_any_conventions_are_diagnosed_without_a_warning(name):
    _, ref = problem(SwitchConfig.like(name, num_experts=2, top_k=2), 12, 6, 5, padding=2, seed=1,
                     training=True, precision="float32")
    report = oracle.compare(ref, y=ref.y + 1, precision="float32")
    assert report.diagnosis[0].startswith("unknown: y is wrong")
