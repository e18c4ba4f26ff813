"""Noise of other libraries: what is refused, and what it reaches."""

import numpy as np
import pytest
from conventions.random_layers import problem

import switch_np as snp
from switch_np.conventions.noise import Noise, draw_noise


def test_noise_that_is_missing_misshapen_or_not_asked_for():
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig.like("mesh_tf_top2", num_experts=4)
    params, x, *_ = problem(rng, config, group_size=0)
    x = rng.standard_normal((6, 3))
    forward = snp.switch_layer.forward
    with pytest.raises(ValueError, match="rng must be a Generator"):
        forward(params, x, config)
    with pytest.raises(ValueError, match=r"noise.policy must be given, an array \(6, 1\), with "
                                         "second_policy='random', got None"):
        forward(params, x, config, noise=Noise())
    with pytest.raises(ValueError, match=r"noise.policy must have shape \(6, 1\), got \(6, 2\)"):
        forward(params, x, config, noise=Noise(policy=np.ones((6, 2))))
    with pytest.raises(ValueError, match=r"noise.second must be None with second_choice='largest'"):
        forward(params, x, config, noise=Noise(policy=np.ones((6, 1)), second=np.ones((6, 4))))
    with pytest.raises(ValueError, match=r"noise.priority must be None with the paper's"):
        forward(params, x, snp.SwitchConfig(num_experts=4, top_k=2),
                noise=Noise(priority=np.ones((6, 2))))
    drawn_once = forward(params, x, config, rng=np.random.default_rng(5))[0]
    assert (drawn_once.y == forward(params, x, config, rng=np.random.default_rng(5))[0].y).all()


def test_noise_meets_what_it_should():
    """Jitter at the experts, noise on the logits in evaluation, Gumbel noise in training alone."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 3))
    noise = draw_noise(rng, snp.SwitchConfig(jitter=0.5), *x.shape, d_ff=1)
    assert 0.5 < noise.jitter.min() < 0.7 and 1.3 < noise.jitter.max() < 1.5
    both = {}
    for reach in ("router", "experts"):
        config = snp.SwitchConfig.like("hf_mixtral", num_experts=2, jitter=0.5, jitter_reach=reach)
        params = problem(np.random.default_rng(1), config, group_size=0)[0]
        both[reach] = snp.switch_layer.forward(params, x, config, noise=noise)[0]
    assert (both["router"].probs == both["experts"].probs).all()
    assert not np.allclose(both["router"].y, both["experts"].y)
    nano = snp.SwitchConfig.like("nanomoe", num_experts=4)
    params = problem(rng, nano, group_size=0)[0]
    first, second = (snp.switch_layer.forward(params, x, nano, rng=rng)[0] for _ in range(2))
    assert (first.logits != second.logits).all()
    tutel = snp.SwitchConfig.like("tutel", num_experts=4, logit_noise="normal")
    params = problem(rng, tutel, group_size=0)[0]
    quiet = snp.switch_layer.forward(params, x, tutel)[0]
    noisy = snp.switch_layer.forward(params, x, tutel, rng=rng, training=True)[0]
    assert (quiet.logits != noisy.logits).all()
