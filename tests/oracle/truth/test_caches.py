"""The oracle reads a layer's cache in one file, which says what."""

import re
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

import switch_np as snp
from switch_np import oracle
from switch_np.oracle.truth import caches


@pytest.mark.parametrize("name", ["paper", "hf_mixtral", "st_moe", "tutel"])
def test_what_is_read_is_there(name):
    config = snp.SwitchConfig.like(name, num_experts=4, groups="all")
    asked = oracle.draw(config, 12, d_model=4, d_ff=6)
    _, cache = snp.switch_layer.forward(asked["params"], asked["x"], asked["config"],
                                        noise=asked.get("noise"))
    for path in caches.READ:
        assert reduce(getattr, path.split("."), cache) is not None, path
    found = caches.intermediates(cache)
    rows = len(cache.plan.token)
    assert {key: value.shape for key, value in found.items()} == {
        "router.input": (12, 4), "experts.rows": (rows, 4), "experts.hidden": (rows, 6),
        "experts.out": (rows, 4)}
    np.testing.assert_array_equal(found["experts.rows"], asked["x"][cache.plan.token])


def test_what_is_read_is_what_is_listed():
    text = Path(caches.__file__).read_text()
    read = re.findall(r"\bcache\.(\w+\.[\w.]*\w)", text)
    read = {path.removesuffix(".items") for path in read if not path.endswith("_replace")}
    assert read == set(caches.READ)


def test_no_other_file_of_the_oracle_reads_a_cache():
    for path in Path(caches.__file__).parents[1].rglob("*.py"):
        if path.name != "caches.py":
            assert re.findall(r"\bcache\.\w", path.read_text()) == [], path.name
