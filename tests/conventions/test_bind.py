"""Layers of all conventions: against loops, against the complex step, and against the paper's."""

from dataclasses import replace

import numpy as np
import pytest
from conventions.random_layers import KNOBS, check_layer, problem, random_config
from judges import conventions_loops as loops
from support import same_decisions

import switch_np as snp
from switch_np.conventions.bind import PAPERS
from switch_np.conventions.libraries import PRESETS
from switch_np.conventions.table import Conventions


def agreed(seed):
    """Compare 30 random layers with loops; return how many have no tie that hangs on rounding."""
    rng, agreed = np.random.default_rng(seed), 0
    for _ in range(30):
        config = random_config(rng, rng.choice([0.3, 0.6, 0.9]))
        params, x, padding, noise, training = problem(rng, config)
        out, _ = snp.switch_layer.forward(
            params, x, config, padding=padding, noise=noise, training=training)
        want = loops.forward(params, x, config, num_groups=config.groups, padding_T=padding,
                             noise=noise, training=training)
        if not same_decisions(out, want, config, params, noise=noise, training=training,
                              padding_T=padding):
            continue
        agreed += 1
        for name in ("logits", "probs", "gates", "y", "balance_loss", "z_loss"):
            np.testing.assert_allclose(getattr(out, name), getattr(want, name), rtol=1e-11,
                                       atol=1e-13, err_msg=f"{name} {config}")
    return agreed


@pytest.mark.parametrize("seed", range(10))
def test_layer_equals_loops(seed):
    assert agreed(seed) == 30


@pytest.mark.thorough
def test_ten_thousand_layers_equal_loops():
    assert sum(map(agreed, range(1000, 1334))) > 9900


def test_shared_experts_have_their_parameters_at_any_width():
    config = snp.SwitchConfig.like("hf_deepseek_v3", num_experts=16)
    assert snp.switch_layer.shapes(6, 0, config)["shared_w_in"] == (6, 0)
    params, x = ({name: np.ones(shape) for name, shape in snp.switch_layer.shapes(
        6, 0, config).items()}, np.ones((4, 6)))
    assert not snp.switch_layer.forward(params, x, config)[0].y.any()


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: "-".join(map(str, knob.values())))
def test_backward_of_every_knob(knob):
    """Two choices of three, some dropped, some padding, dropout and jitter on."""
    config = snp.SwitchConfig(num_experts=3, top_k=2, capacity=1, groups=2, router_bias=True,
                              jitter=0.2, expert_dropout=0.3, conventions=Conventions(**knob))
    check_layer(np.random.default_rng(6), config, group_size=4, f=2)


@pytest.mark.parametrize("knob", [{}, *KNOBS], ids=lambda knob: "-".join(map(str, knob.values())))
def test_float32_stays_with_every_knob(rng, knob):
    """All that comes out has the precision of what went in, in training and outside it."""
    config = snp.SwitchConfig(num_experts=4, top_k=2, capacity=1, groups=2, router_bias=True,
                              jitter=0.2, router_dropout=0.2, expert_dropout=0.3,
                              conventions=Conventions(**knob))
    params = {name: rng.standard_normal(shape).astype(np.float32)
              for name, shape in snp.switch_layer.shapes(3, 4, config).items()}
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    for training in (False, True):
        for padding in (None, np.arange(8).reshape(2, 4) % 4 == 1):
            out, cache = snp.switch_layer.forward(params, x, config, padding=padding, rng=rng,
                                                  training=training)
            d_x, grads = snp.switch_layer.backward(x, cache, np.float64(0.3), 0.2,
                                                   d_probs=out.probs, d_logits=out.logits)
            found = {**out._asdict(), "d_x": d_x, **grads}
            found.pop("plan")
            assert {name: value.dtype for name, value in found.items()} == dict.fromkeys(
                found, np.dtype(np.float32))


@pytest.mark.parametrize("seed", [*range(2), *(
    pytest.param(seed, marks=pytest.mark.thorough) for seed in range(2, 40))])
def test_backward_of_random_configs(seed):
    rng = np.random.default_rng(100 + seed)
    for _ in range(4):
        check_layer(rng, random_config(rng, rng.choice([0.3, 0.6, 0.9])))


@pytest.mark.thorough                                  # the oracle certifies each of them anyway
@pytest.mark.parametrize("name", [
    *PRESETS, "gpt_oss", "qwen3_next", "glm4v_moe", "hy_v4", "deepseek_v4", "nemotron_h", "llama4"])
def test_backward_of_every_preset(name):
    config = snp.SwitchConfig.like(name, num_experts=4, capacity_factor=1.0, min_capacity=0,
                                   groups=2, capacity=None)
    check_layer(np.random.default_rng(3), config, group_size=4)


def test_general_modules_give_the_paper_under_its_conventions(monkeypatch):
    rng = np.random.default_rng(0)
    for k in (1, 2):
        config = snp.SwitchConfig(num_experts=4, top_k=k, capacity_factor=0.8, groups=2,
                                  router_bias=True, expert_dropout=0.3)
        params, x, _, noise, _ = problem(rng, config, group_size=8)
        padding = rng.random(16) < 0.3
        d_y = rng.standard_normal(x.shape)
        both = []
        for papers in (True, False):
            with monkeypatch.context() as patch:
                patch.setattr(Conventions, "papers", papers)
                mine = replace(config, conventions=Conventions())     # it has not been asked yet
                out, cache = snp.switch_layer.forward(params, x, mine, padding=padding, noise=noise)
            assert [part == mine for part, mine in zip(cache.parts, PAPERS)] == [papers] * 6
            both.append((out, *snp.switch_layer.backward(d_y, cache, 0.3, 0.2)))
        (one, d_x, grads), (other, other_d_x, other_grads) = both
        for name in ("y", "balance_loss", "z_loss", "gates"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-14)
        np.testing.assert_allclose(d_x, other_d_x, rtol=1e-12)
        for name in params:
            np.testing.assert_allclose(grads[name], other_grads[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("where, name, spoil, knob", [
    ("renormalise", "divisor", lambda s, slope: (s, 0 * slope), {"renorm": "pre"}),
    ("general_mixture", "take", lambda d: 0 * d, {"gate_at": "both"}),
    ("general_mixture", "take", lambda d: 0 * d, {"dispatch_gradient": "straight_through"}),
    ("general_mixture", "dropped_backward", lambda d, g: (d, 2 * g), {"dropped": "gated_identity"}),
    ("general_mixture", "dropped_backward", lambda d, g: (0 * d, g), {"dropped": "identity"}),
    ("general_losses", "normalise_backward", lambda d: 0.5 * d, {"balance_probs": "chosen"}),
    ("general_losses", "second_choice_backward", lambda d: -d, {"second_balance": True}),
    ("activations", "slope", lambda d: d + 0.01, {"expert_activation": "gelu_tanh"}),
    ("activations", "slope", lambda d: d * 1.000001, {"expert_gated": True}),
    ("general_mixture", "shared_backward", lambda d, g: (0 * d, g), {"shared_experts": 1}),
    ("scores", "sigmoid", lambda s: 1 - s, {"scores": "sigmoid"}),
], ids=lambda value: value if isinstance(value, str) else None)
def test_planted_bugs_are_seen(monkeypatch, where, name, spoil, knob):
    folder = "operations" if where == "activations" else "conventions"
    module = __import__(f"switch_np.{folder}.{where}", fromlist=[where])
    right = getattr(module, name)

    def wrong(*args):
        found = right(*args)
        return spoil(*found) if isinstance(found, tuple) else spoil(found)

    config = snp.SwitchConfig(num_experts=4, top_k=2, capacity=1, groups=2,
                              conventions=Conventions(**knob))
    check_layer(np.random.default_rng(1), config, group_size=4)
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(AssertionError, match=r"error|exactly 0"):
        check_layer(np.random.default_rng(1), config, group_size=4)
