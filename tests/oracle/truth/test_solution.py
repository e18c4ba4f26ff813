"""A reference can't be written to, so that what is judged and how stay what they were."""

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle


@pytest.fixture(scope="module")
def ref():
    return oracle.reference(**oracle.draw(SwitchConfig(num_experts=4, top_k=2), 12, 6, 8))


def test_every_array_of_a_reference_is_read_only(ref):
    arrays = [ref.y, ref.probs, ref.logits, ref.gates, ref.scores, ref.plan.expert, *ref.margins,
              *ref.grads.values(), *ref.intermediates.values(), *ref.sigma("float32").values(),
              *(part for parts in (*ref.seeds.values(), *ref.terms.values())
                for part in parts.values()),
              ref.problem.x, ref.problem.d_y, *ref.problem.params.values()]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_gradient_cannot_be_replaced(ref):
    for mapping in (ref.grads, ref.terms["x"], ref.problem.params, ref.sigma("float64")):
        with pytest.raises(TypeError, match="item assignment"):
            mapping[next(iter(mapping))] = -ref.y


def test_the_inputs_are_copied():
    asked = oracle.draw(SwitchConfig(num_experts=4), 12, 6, 8)
    ref = oracle.reference(**asked)
    asked["x"] *= -1
    asked["params"]["w_in"] *= -1
    assert not np.array_equal(ref.problem.x, asked["x"])
    assert not np.array_equal(ref.problem.params["w_in"], asked["params"]["w_in"])
