"""Figure 4: where more experts stop helping, and the arms without the factor N."""

from experiments.tiny import fake
from switch_np.experiments import figure4


def test_figure4_finds_where_more_experts_stop_helping():
    found = fake(figure4.EXPERIMENT)
    assert figure4.falls_to(found) == 64
    bits = found.rows["bits_per_byte"].copy()
    bits[found.rows["arm"] == "experts-16"] += 0.5
    worse = found._replace(rows=found.rows | {"bits_per_byte": bits})
    assert figure4.falls_to(worse) == 8
    assert figure4.steps_to_dense(found)["experts-64"] < figure4.steps_to_dense(found)["experts-1"]
    arms = {arm.name: arm.model for arm in figure4.EXPERIMENT.arms}
    assert arms["experts-64-without-N"].balance_coef == 0.01 / 64
    assert arms["experts-64"].balance_coef == 0.01 and arms["experts-1"].switch_layers == ()
