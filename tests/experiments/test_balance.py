"""What the arms cost; and three ways of reading, which agree where no route looks ahead."""

from math import prod

import numpy as np
import pytest

from experiments.tiny import CORPUS, MODEL, TRAIN
from switch_np.conventions.table import Conventions
from switch_np.experiments import balance, flops, toy
from switch_np.training import trainer
from switch_np.transformer import model_parameters

ARMS = {arm.name: arm for arm in balance.EXPERIMENT.arms}


def test_the_finer_experts_have_the_parameters_and_operations_of_the_others():
    def weights(name):
        return {path: prod(shape) for path, shape in model_parameters.shapes(
            ARMS[name].model).items() if "w_router" not in path}

    assert sum(weights("finer").values()) == sum(weights("loss").values())
    work = {name: flops.step(arm.model, 32, 64) for name, arm in ARMS.items()}
    assert max(work.values()) < 1.2 * work["dense"] == 1.2 * min(work.values())


def test_what_is_expected_is_of_columns_and_arms_that_are_there():
    compared = [side for *sides, _ in balance.EXPECTED.values() for side in sides]
    assert {arm for _, arm in compared} == set(ARMS)
    assert {column for column, _ in compared} == {"bits_per_byte", "busiest", "whole", "one_by_one"}


@pytest.mark.parametrize("conventions", [Conventions(select_bias=True), Conventions(
    chooser="experts")], ids=["tokens", "experts"])
def test_three_readings_agree_if_and_only_if_no_route_depends_on_later_bytes(conventions):
    run = trainer.start(toy.switch(MODEL, capacity_factor=1.0, conventions=conventions), TRAIN,
                        CORPUS)
    for block in run.params["decoder"].values():
        if "switch" in block:
            block["switch"]["w_router"] *= 50
            block["switch"]["w_out"] *= 50
    found = [balance.bits(run, CORPUS, reading) for reading in (
        balance.whole, balance.prefixes, balance.one_by_one)]
    if conventions.chooser == "tokens":
        np.testing.assert_allclose(found, found[0], rtol=1e-6)
    else:
        assert np.ptp(found[:2]) > 1e-4 and np.ptp(found[1:]) > 1e-4
