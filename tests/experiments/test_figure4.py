"""Figure 4: the arms without the factor E, and what a doubling of the experts saves."""

import numpy as np

from experiments.tiny import fake
from switch_np.experiments import figure4


def test_a_trend_is_the_slope_of_a_straight_line():
    found = fake(figure4.EXPERIMENT)
    effects = {claim.name: claim.effect(found) for claim in figure4.CLAIMS}
    assert np.isclose(effects["trend"].mean, 0.05, atol=0.01)      # 0.05 per arm in `fake`
    assert np.isclose(effects["more"].mean, 0.15, atol=0.02) and effects["more"].grade == "holds"
    assert 0 < effects["steps saved"].mean < 1
    assert figure4.steps_to_dense(found)["experts-64"] < figure4.steps_to_dense(found)["experts-1"]


def test_the_arms_differ_in_the_factor_n_alone():
    arms = {arm.name: arm.model for arm in figure4.EXPERIMENT.arms}
    assert arms["experts-64-without-E"].balance_coef == 0.01 / 64
    assert arms["experts-64"].balance_coef == 0.01 and arms["experts-1"].switch_layers == ()
