"""The choice of experts; `test_bind` compares it with loops."""

import numpy as np
from conventions.random_layers import problem
from judges import conventions_loops as loops

import switch_np as snp
from switch_np.conventions.noise import Noise
from switch_np.conventions.table import Conventions


def test_scores_are_rounded_once_before_the_choice():
    """By way of float32 the second score would come to lie on the tie, and go down with the first.
    """
    config = snp.SwitchConfig(num_experts=2, conventions=Conventions(select_precision="bfloat16"))
    params, *_ = problem(np.random.default_rng(0), config, group_size=2)
    params["w_router"][:] = 0
    tie = 1 + 2 ** -8
    noise = Noise(gumbel=np.array([[tie, tie + 2 ** -30], [tie, tie]]))
    out, _ = snp.switch_layer.forward(params, np.ones((2, 3)), config, noise=noise)
    want = loops.forward(params, np.ones((2, 3)), config, noise=noise)
    assert out.plan.expert.tolist() == want.expert.tolist() == [[1], [0]]
