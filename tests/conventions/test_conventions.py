"""Other libraries' conventions: against loops, against the complex step, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
from judges import conventions_loops as loops

import switch_np as snp
from switch_np.conventions import scores
from switch_np.conventions.noise import Noise, draw_noise, outside_training
from switch_np.conventions.table import CHOICES, Conventions
from switch_np.operations import gradcheck
from switch_np.switch.layer import Parts

FLAGS = ["select_bias", "capacity_whole_share", "capacity_at_most_group", "renorm_single",
         "second_balance", "expert_gated", "expert_biases", "expert_hidden_scale", "shared_bias"]


def random_config(rng, keep_paper=0.6):
    """Draw a config over all knobs, each left at the paper's with probability `keep_paper`."""
    groups = int(rng.choice([1, 2]))
    e = int(rng.choice([2, 4, 6])) if groups == 2 else int(rng.integers(1, 6))
    k = int(rng.integers(1, max(e // groups, 1) + 1))
    settings = {name: str(rng.choice(options)) for name, options in CHOICES.items()
                if rng.random() > keep_paper}
    settings |= {name: True for name in FLAGS if rng.random() > keep_paper}
    settings |= {"select_groups": groups, "capacity_multiple_of": int(rng.integers(1, 4)),
                 "capacity_unused": int(rng.integers(0, 2)),
                 "second_threshold": float(rng.choice([0.0, 0.2, 0.4])),
                 "logit_noise_scale": 0.5, "shared_experts": int(rng.integers(0, 3)),
                 "gate_scale": float(rng.choice([1.0, 2.5])),
                 "renorm_power": float(rng.choice([1.0, 2.0])),
                 "renorm_eps": [0.0, 1e-9, 0.3, "finfo"][rng.integers(4)],
                 "eval_capacity_fraction": [None, 0.25][rng.integers(2)]}
    if settings.get("chooser") == "experts":
        settings |= {"select_bias": False, "select_groups": 1, "select_precision": "same",
                     "second_choice": "largest", "second_policy": "all", "priority": "choice"}
    if settings.get("gate_at", "output") != "output":
        settings["dispatch_gradient"] = "stop"
    settings["second_balance"] = settings.get("second_balance", False) and k > 1
    return snp.SwitchConfig(
        num_experts=e, top_k=k, capacity_factor=[None, 0.5, 1.0, 1.3][rng.integers(4)],
        eval_capacity_factor=["same", 0.8][rng.integers(2)], min_capacity=int(rng.integers(0, 3)),
        capacity_per_choice=bool(rng.random() < 0.5), groups=int(rng.integers(1, 4)),
        router_bias=bool(rng.random() < 0.5), jitter=float(rng.choice([0.0, 0.3])),
        router_dropout=float(rng.choice([0.0, 0.2])), sample=bool(rng.random() < 0.2)
        and settings.get("chooser") != "experts",
        expert_dropout=float(rng.choice([0.0, 0.4])),
        layout=str(rng.choice(["packed", "buffers"])), conventions=Conventions(**settings))


def problem(rng, config, group_size=None, d=3, f=4):
    """Draw parameters that are nowhere trivial, tokens, padding and noise."""
    group_size = int(rng.integers(0, 6)) if group_size is None else group_size
    t = group_size * (config.groups if isinstance(config.groups, int) else 1)
    params = {name: rng.standard_normal(shape)
              for name, shape in snp.switch_layer.shapes(d, f, config).items()}
    padding = rng.random(t) < 0.3 if rng.random() < 0.6 else None
    training = bool(rng.random() < 0.5)
    noise = Noise()
    if training:
        noise = draw_noise(rng, config, t, d, f)
    else:
        noise = draw_noise(rng, outside_training(config), t, d, f)
    return params, rng.standard_normal((t, d)), padding, noise, training


@pytest.mark.parametrize("seed", range(20))
def test_layer_equals_loops(seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        config = random_config(rng, rng.choice([0.3, 0.6, 0.9]))
        params, x, padding, noise, training = problem(rng, config)
        out, _ = snp.switch_layer.forward(
            params, x, config, padding=padding, noise=noise, training=training)
        want = loops.forward(params, x, config, num_groups=config.groups, padding_T=padding,
                             noise=noise, training=training)
        for name in ("expert", "slot", "kept", "load", "capacity"):
            assert np.array_equal(getattr(out.plan, name), getattr(want, name)), (name, config)
        for name in ("logits", "probs", "gates", "y", "balance_loss", "z_loss"):
            np.testing.assert_allclose(getattr(out, name), getattr(want, name), rtol=1e-11,
                                       atol=1e-13, err_msg=f"{name} {config}")


def check_layer(rng, config, group_size=None):
    """Hold every gradient against the complex step, with the plan replayed."""
    params, x, padding, noise, training = problem(rng, config, group_size, d=2, f=3)
    options = {"padding": padding, "noise": noise, "training": training}
    plan = snp.switch_layer.forward(params, x, config, **options)[0].plan
    idle = {"select_bias"} & set(params) | ({"w_noise"} & set(params) if noise.logits is None
                                            else set())
    fixed = {name: params.pop(name) for name in idle}

    def forward(inputs):
        out, cache = snp.switch_layer.forward(
            inputs["params"] | {name: value.astype(inputs["x"].dtype)
                                for name, value in fixed.items()},
            inputs["x"], config, plan=plan, **options)
        return (out.y, out.balance_loss, out.z_loss, out.probs, out.logits), cache

    def backward(d_y, d_balance, d_z, d_probs, d_logits, cache):
        d_x, grads = snp.switch_layer.backward(d_y, cache, float(d_balance), float(d_z),
                                               d_probs=d_probs, d_logits=d_logits)
        assert not any(grads.pop(name).any() for name in idle)
        return {"x": d_x, "params": grads}

    found = gradcheck.check_backward(forward, backward, {"x": x, "params": params}, rng)
    assert set(found) == {"x"} | {f"params.{name}" for name in params}


KNOBS = [{name: option} for name, options in CHOICES.items() for option in options[1:]]
KNOBS += [{name: True} for name in FLAGS]
KNOBS += [{"renorm": when, "renorm_eps": 0.3, "renorm_eps_mode": mode, "renorm_power": power}
          for when in ("pre", "post") for mode in ("add", "clamp") for power in (1.0, 2.0)]
KNOBS += [{"renorm": "pre", "renorm_eps": 0.6, "renorm_eps_mode": "clamp"},
          {"gate_scale": 2.5}, {"shared_experts": 2, "expert_gated": True},
          {"dropped": "gated_identity", "gate_gradient": "unit", "renorm": "pre"},
          {"expert_gated": True, "expert_biases": True, "expert_hidden_scale": True,
           "expert_activation": "gelu"}]


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: "-".join(map(str, knob.values())))
def test_backward_of_every_knob(knob):
    """Two choices of four, some dropped, some padding, dropout and jitter on."""
    config = snp.SwitchConfig(num_experts=4, top_k=2, capacity=1, groups=2, router_bias=True,
                              jitter=0.2, expert_dropout=0.3, conventions=Conventions(**knob))
    check_layer(np.random.default_rng(6), config, group_size=4)


def check_float32(config):
    """All that comes out has the precision of what went in, in training and outside it."""
    rng = np.random.default_rng(0)
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


@pytest.mark.parametrize("knob", [{}, *KNOBS], ids=lambda knob: "-".join(map(str, knob.values())))
def test_float32_stays_with_every_knob(knob):
    check_float32(snp.SwitchConfig(num_experts=4, top_k=2, capacity=1, groups=2, router_bias=True,
                                   jitter=0.2, router_dropout=0.2, expert_dropout=0.3,
                                   conventions=Conventions(**knob)))


@pytest.mark.parametrize("layout", ["packed", "buffers"])
@pytest.mark.parametrize("name", snp.presets())
def test_float32_stays_with_every_preset(name, layout):
    check_float32(snp.SwitchConfig.like(name, num_experts=8, capacity=1, layout=layout))
    check_float32(snp.SwitchConfig.like(name, num_experts=8, layout=layout))


@pytest.mark.parametrize("seed", range(8))
def test_backward_of_random_configs(seed):
    rng = np.random.default_rng(100 + seed)
    for _ in range(4):
        check_layer(rng, random_config(rng, rng.choice([0.3, 0.6, 0.9])))


@pytest.mark.parametrize("name", snp.presets())
def test_backward_of_every_preset(name):
    config = snp.SwitchConfig.like(name, num_experts=4, capacity_factor=1.0, min_capacity=0,
                                   groups=2, capacity=None)
    check_layer(np.random.default_rng(3), config, group_size=4)


def test_what_stands_in_for_the_papers_parts_gives_the_paper_under_its_conventions(monkeypatch):
    """The parts of other libraries, bound to the paper's conventions: the same numbers."""
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
            assert [part == mine for part, mine in zip(cache.parts, Parts())] == [papers] * 6
            both.append((out, *snp.switch_layer.backward(d_y, cache, 0.3, 0.2)))
        (one, d_x, grads), (other, other_d_x, other_grads) = both
        for name in ("y", "balance_loss", "z_loss", "gates"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-14)
        np.testing.assert_allclose(d_x, other_d_x, rtol=1e-12)
        for name in params:
            np.testing.assert_allclose(grads[name], other_grads[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", CHOICES["scores"])
def test_a_gradient_of_the_logits_that_does_not_arrive_is_0(kind):
    rng = np.random.default_rng(0)
    params, x = {"w_router": rng.standard_normal((3, 4))}, rng.standard_normal((5, 3))
    out, cache = scores.forward(params, x, kind=kind)
    none = scores.backward(out.probs_TE, 0 * out.log_z_T, cache)
    zeros = scores.backward(out.probs_TE, 0 * out.log_z_T, cache, 0 * out.logits_TE)
    assert (none[0] == zeros[0]).all() and (none[1]["w_router"] == zeros[1]["w_router"]).all()


@pytest.mark.parametrize("where, name, spoil, knob", [
    ("renormalise", "divisor", lambda s, slope: (s, 0 * slope), {"renorm": "pre"}),
    ("general_mixture", "take", lambda d: 0 * d, {"gate_at": "both"}),
    ("general_mixture", "take", lambda d: 0 * d, {"dispatch_gradient": "straight_through"}),
    ("dropped_tokens", "backward", lambda d, g: (d, 2 * g), {"dropped": "gated_identity"}),
    ("dropped_tokens", "backward", lambda d, g: (0 * d, g), {"dropped": "identity"}),
    ("normalised_scores", "backward", lambda d: 0.5 * d, {"balance_probs": "chosen"}),
    ("second_choice_loss", "backward", lambda d: -d, {"second_balance": True}),
    ("activations", "slope", lambda d: d + 0.01, {"expert_activation": "gelu_tanh"}),
    ("activations", "slope", lambda d: d * 1.000001, {"expert_gated": True}),
    ("shared_expert", "backward", lambda d, g: (0 * d, g), {"shared_experts": 1}),
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


@pytest.mark.parametrize("settings, message", [
    ({"renorm": "sum"}, "renorm must be one of 'none', 'pre', 'post', got 'sum'"),
    ({"select_bias": 1}, "select_bias must be True or False, got 1"),
    ({"select_groups": 0}, "select_groups must be at least 1, got 0"),
    ({"select_groups_kept": 2}, "select_groups_kept must be at most select_groups, 1, got 2"),
    ({"renorm_eps": -1.0}, "renorm_eps must be finite, at least 0, got -1.0"),
    ({"renorm_eps": "eps"}, "renorm_eps must be one of 'finfo', got 'eps'"),
    ({"renorm_power": 0.5}, "renorm_power must be finite, at least 1, got 0.5"),
    ({"gate_scale": "2"}, "gate_scale must be a number, got '2'"),
    ({"eval_capacity_fraction": -0.1}, "eval_capacity_fraction must be finite, at least 0"),
    ({"dispatch_gradient": "straight_through", "gate_at": "both"}, "must go with gate_at='output'"),
    ({"chooser": "experts", "second_policy": "none"},
     "second_policy must be 'all' with chooser='experts'")])
def test_conventions_refuse(settings, message):
    with pytest.raises((TypeError, ValueError), match=message.replace("(", r"\(")):
        Conventions(**settings)


@pytest.mark.parametrize("settings, message", [
    ({"conventions": "hf"}, "conventions must be a Conventions, got 'hf'"),
    ({"conventions": {"renorm": "pre"}}, "conventions must have the keys"),
    ({"num_experts": 6, "conventions": Conventions(select_groups=4)},
     "select_groups must divide num_experts, 6, got 4"),
    ({"top_k": 3, "num_experts": 8, "conventions": Conventions(select_groups=4)},
     "top_k must be at most the experts of select_groups_kept groups, 2, got 3"),
    ({"conventions": Conventions(second_balance=True)},
     "top_k must be at least 2 with second_balance=True, got 1"),
    ({"sample": True, "conventions": Conventions(chooser="experts")},
     "sample must be False with chooser='experts'")])
def test_config_refuses(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        snp.SwitchConfig(**settings)


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
    noise = Noise(jitter=rng.uniform(0.5, 1.5, x.shape))
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


@pytest.mark.parametrize("name, settings", [
    ("hf_mixtral", {"top_k": 1}), ("nanomoe", {"top_k": 1}),
    ("deepspeed_top2", {"capacity": 1, "second_policy": "none", "second_choice": "largest"})])
def test_a_gate_of_1_sends_the_router_nothing(name, settings):
    """Divided by itself a gate is constant: exactly 0, not merely little."""
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig.like(name, num_experts=4, **settings)
    params, x, _, noise, _ = problem(rng, config, group_size=12)
    noise = noise if config.conventions.logit_noise != "none" else Noise()
    out, cache = snp.switch_layer.forward(params, x, config, noise=noise)
    _, grads = snp.switch_layer.backward(rng.standard_normal(x.shape), cache)
    assert out.plan.kept.any() and (out.gates[out.plan.kept] == 1).all()
    assert not grads["w_router"].any() and grads["w_out"].any()
    if name == "nanomoe":
        assert not snp.switch_layer.backward(0 * x, cache, 1.0)[1]["w_router"].any()
        assert snp.switch_layer.backward(0 * x, cache, 0.0, 1.0)[1]["w_router"].any()


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


def test_megatron_keeps_the_largest_gates_as_they_are_after_the_choice():
    """Its softmax comes after the choice, and its capacity cut after that."""
    config = snp.SwitchConfig.like("megatron", num_experts=4, capacity_factor=0.8)
    rng = np.random.default_rng(0)
    params = snp.switch_layer.init(rng, 6, 8, config, scale=2.0)
    x = rng.standard_normal((30, 6))
    out, _ = snp.switch_layer.forward(params, x, config, rng=rng)
    expert = np.argsort(-out.logits, axis=1)[:, :2]
    chosen = np.exp(np.take_along_axis(out.logits, expert, axis=1))
    gate_TE = np.zeros((30, 4))
    np.put_along_axis(gate_TE, expert, chosen / chosen.sum(axis=1, keepdims=True), axis=1)
    kept_TE = np.zeros((30, 4), bool)
    np.put_along_axis(kept_TE, np.argsort(-gate_TE, axis=0)[:out.plan.capacity], True, axis=0)
    assert (out.plan.expert == expert).all() and out.plan.capacity == 12
    assert (out.plan.kept == np.take_along_axis(kept_TE & (gate_TE > 0), expert, axis=1)).all()
    by_score = snp.SwitchConfig.like("megatron", num_experts=4, capacity_factor=0.8,
                                     priority="gate")
    other, _ = snp.switch_layer.forward(params, x, by_score, rng=rng)
    assert (other.plan.kept != out.plan.kept).any()


def test_expert_choice_serves_each_expert_its_best_tokens():
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig.like("flaxformer", num_experts=3, chooser="experts", capacity=2,
                                   balance_counts="none")
    params, x, *_ = problem(rng, config, group_size=7)
    out, _ = snp.switch_layer.forward(params, x, config)
    for e in range(3):
        best = np.argsort(-out.probs[:, e], kind="stable")[:2]
        taken = np.flatnonzero((out.plan.kept & (out.plan.expert == e)).any(axis=1))
        assert set(best) == set(taken)
    assert out.plan.load.tolist() == [[2, 2, 2]] and out.plan.dropped_fraction == 0
