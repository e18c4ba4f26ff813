"""Foreign decisions become a plan, whatever they say, and are replayed as they are."""

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, oracle
from switch_np.conventions import arguments
from switch_np.oracle.truth import decisions

ASKED, OWN = problem(SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0), 30, 7, 5, seed=1,
                     unused=1)
PLAN = OWN.plan


def test_a_plan_is_replayed_whatever_it_says():
    again = oracle.reference(**ASKED, plan={"expert": PLAN.expert, "kept": PLAN.kept,
                                            "slot": PLAN.slot}).plan
    for name in ("expert", "slot", "kept", "token", "choice", "start", "load", "balance_count"):
        assert (getattr(again, name) == getattr(PLAN, name)).all(), name
    drifted = (PLAN.expert + 1) % 4
    ref = oracle.reference(**ASKED, plan=drifted)
    assert (ref.plan.expert == drifted).all() and ref.margin.min() < 0
    batch = oracle.reference(**ASKED, plan=drifted.reshape(3, 10, 2).tolist())
    assert (batch.y == ref.y).all()


def test_foreign_slots_give_the_same_numbers_in_another_order():
    queue = PLAN.kept_load[0][PLAN.expert]
    turned = np.where(PLAN.kept, queue - 1 - PLAN.slot, -1)
    ref = oracle.reference(**ASKED, plan={"expert": PLAN.expert, "slot": turned})
    assert (ref.plan.slot == turned).all() and (ref.plan.token != PLAN.token).any()
    for name, grad in OWN.grads.items():
        np.testing.assert_allclose(ref.grads[name], grad, atol=1e-14)
    turned[PLAN.kept] = 0
    with pytest.raises(ValueError, match="slot must differ within the buffer"):
        oracle.reference(**ASKED, plan={"expert": PLAN.expert, "slot": turned})


@pytest.mark.parametrize("groups, shape", [("all", (6, 7)), ("rows", (3, 2, 7)), (2, (6, 7))])
def test_group_counts_match_the_layer(groups, shape):
    config = SwitchConfig(num_experts=4, groups=groups)
    asked = oracle.draw(config, 6, d_model=7, d_ff=5)
    asked |= {name: asked[name].reshape(shape) for name in ("x", "d_y")}
    own = oracle.reference(**asked)
    again = oracle.reference(**asked, plan=own.plan.expert)
    assert arguments.num_groups(config, shape) == own.plan.load.shape[0]
    assert (again.plan.kept == own.plan.kept).all()


def test_kept_choices_keep_their_order():
    plan = decisions.as_plan({"expert": [0, 0, 0, 1], "kept": [False, True, True, True]},
                             SwitchConfig(num_experts=2, capacity=2), 4)
    assert plan.slot[:, 0].tolist() == [-1, 0, 1, 0] and plan.load.tolist() == [[3, 1]]
