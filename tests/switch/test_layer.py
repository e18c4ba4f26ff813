"""The layer against its loops, under the complex step, and its invariants."""

from dataclasses import replace

import numpy as np
import pytest
from judges import paper_loops as loops
from support import check_layer, layer_problem

import switch_np as snp
from switch_np.plans import decide, fill, margins
from switch_np.switch import combine, dispatch


def random_config(rng):
    """Return a random config and a shape (B, S) that its groups divide."""
    experts = int(rng.choice([1, 2, 3, 5, 7]))
    groups = rng.choice(["all", "rows", "number"])
    b, s = int(rng.integers(1, 4)), int(rng.integers(0, 9))
    limit = rng.choice(["factor", "absolute", "none"])
    config = snp.SwitchConfig(
        num_experts=experts, top_k=int(rng.integers(1, experts + 1)),
        groups=b if groups == "number" else str(groups),
        capacity=int(rng.integers(0, 5)) if limit == "absolute" else None,
        capacity_factor=None if limit == "none" else float(rng.uniform(0, 2)),
        eval_capacity_factor=float(rng.uniform(0, 2)), min_capacity=int(rng.integers(0, 3)),
        capacity_per_choice=bool(rng.integers(2)), router_bias=bool(rng.integers(2)),
        jitter=float(rng.choice([0, 0.1])), router_dropout=float(rng.choice([0, 0.3])),
        sample=bool(rng.integers(2)), expert_dropout=float(rng.choice([0, 0.4])),
        layout=str(rng.choice(["packed", "buffers"])))
    return config, (b, s)


@pytest.mark.parametrize("seed", range(300))
def test_layer_equals_loops(seed):
    rng = np.random.default_rng(seed)
    config, (b, s) = random_config(rng)
    training = bool(rng.integers(2))
    params, x, padding, noise = layer_problem(
        seed, config, shape=(b, s), padded=rng.choice([0, 0.3]), training=training)
    if rng.integers(2) and x.size:
        x[0, -1] = x[0, 0]                                  # two tokens that are the same
    if rng.integers(2):
        params["w_router"][:, -1] = params["w_router"][:, 0]     # two experts that always tie
    out, _ = snp.switch_layer.forward(params, x, config, padding=padding, noise=noise,
                                      training=training)
    want = loops.forward(
        params, x.reshape(b * s, 5), config, num_groups=1 if config.groups == "all" else b,
        padding_T=None if padding is None else padding.ravel(),
        **({"noise": noise} if training else {}), training=training)
    for name in ("expert", "slot", "kept", "load", "capacity"):
        np.testing.assert_array_equal(getattr(out.plan, name), getattr(want, name), name)
    for name in ("balance_loss", "z_loss", "probs", "logits", "gates"):
        np.testing.assert_allclose(getattr(out, name), getattr(want, name), rtol=1e-12, atol=1e-13,
                                   err_msg=name)
    np.testing.assert_allclose(out.y.reshape(want.y.shape), want.y, rtol=1e-12, atol=1e-12)


CASES = {
    "switch": dict(num_experts=3, capacity_factor=1.0),
    "no limit": dict(num_experts=3, capacity_factor=None),
    "top 2": dict(num_experts=4, top_k=2, capacity_factor=1.0),
    "all experts": dict(num_experts=3, top_k=3, capacity_factor=None),
    "all experts, drops": dict(num_experts=3, top_k=3, capacity_factor=1.5),
    "one expert": dict(num_experts=1, capacity_factor=1.0),
    "all dropped": dict(num_experts=3, capacity=0),
    "prime": dict(num_experts=7, top_k=2, capacity=1),
    "bias": dict(num_experts=3, router_bias=True),
    "groups": dict(num_experts=3, groups=3, capacity_factor=0.7),
    "noise": dict(num_experts=3, top_k=2, router_dropout=0.3, sample=True, jitter=0.2,
                  expert_dropout=0.4),
}


@pytest.mark.parametrize("layout", ["packed", "buffers"])
@pytest.mark.parametrize("padded", [0.0, 0.3])
@pytest.mark.parametrize("name", CASES)
def test_gradients_by_complex_step(name, padded, layout):
    config = snp.SwitchConfig(**CASES[name], layout=layout)
    plan = check_layer(3, config, padded=padded)
    if "drop" in name or "prime" in name:
        assert plan.dropped_fraction > 0


@pytest.mark.parametrize("layout", ["packed", "buffers"])
def test_gradients_of_experts_with_few_rows_beside_the_width(layout):
    config = snp.SwitchConfig(num_experts=6, expert_dropout=0.3, layout=layout)
    plan = check_layer(3, config, d_model=16, d_ff=6)
    assert 0 < 2 * np.diff(plan.start).max() <= 16           # such weights are not turned


def test_gradients_in_evaluation_with_all_noise_configured():
    check_layer(0, snp.SwitchConfig(**CASES["noise"]), training=False)


@pytest.mark.parametrize("shape", [(0,), (1,), (13,), (2, 5)])
def test_gradients_of_other_shapes(shape):
    rows = "rows" if len(shape) == 2 else "all"
    check_layer(0, snp.SwitchConfig(num_experts=4, groups=rows, min_capacity=1), shape=shape)


def test_gradients_with_an_expert_that_nobody_chose_are_exactly_zero():
    config = snp.SwitchConfig(num_experts=3, router_bias=True, capacity_factor=None)
    params, x, _, _ = layer_problem(0, config, training=False)
    params["b_router"][1] = -50.0
    out, cache = snp.switch_layer.forward(params, x, config)
    _, grads = snp.switch_layer.backward(np.ones_like(x), cache)
    assert out.plan.load[0, 1] == 0
    assert not grads["w_in"][1].any() and not grads["w_out"][1].any()
    assert grads["w_in"][0].any() and grads["w_in"][2].any()


def test_a_group_of_padding_alone_counts_nothing():
    config = snp.SwitchConfig(num_experts=3, groups="rows")
    params, x, _, _ = layer_problem(0, config, shape=(3, 4), training=False)
    padding = np.zeros((3, 4), bool)
    padding[1] = True
    both, cache = snp.switch_layer.forward(params, x, config, padding=padding)
    alone, _ = snp.switch_layer.forward(params, x[[0, 2]], config)
    np.testing.assert_allclose(both.balance_loss, alone.balance_loss, rtol=1e-14)
    np.testing.assert_allclose(both.z_loss, alone.z_loss, rtol=1e-14)
    d_x, _ = snp.switch_layer.backward(np.ones_like(x), cache, 0.7, 0.3)
    assert not both.y[1].any() and not d_x[1].any()


def test_no_tokens_give_zeros():
    config = snp.SwitchConfig(num_experts=3)
    params, x, _, _ = layer_problem(0, config, shape=(0,), training=False)
    out, cache = snp.switch_layer.forward(params, x, config)
    d_x, grads = snp.switch_layer.backward(x, cache, 1.0, 1.0)
    assert out.balance_loss == 0 and out.z_loss == 0 and out.plan.dropped_fraction == 0
    assert out.y.shape == d_x.shape == x.shape and not any(g.any() for g in grads.values())


def test_permuting_the_experts_permutes_everything():
    config = snp.SwitchConfig(num_experts=5, top_k=2, capacity_factor=1.0)
    params, x, _, _ = layer_problem(1, config, shape=(40,), training=False)
    order = np.random.default_rng(0).permutation(5)
    moved = {"w_router": params["w_router"][:, order], "w_in": params["w_in"][order],
             "w_out": params["w_out"][order]}
    out, cache = snp.switch_layer.forward(params, x, config)
    out_2, cache_2 = snp.switch_layer.forward(moved, x, config)
    np.testing.assert_array_equal(order[out_2.plan.expert], out.plan.expert)
    np.testing.assert_allclose(out_2.y, out.y, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(out_2.balance_loss, out.balance_loss, rtol=1e-13)
    d_x, grads = snp.switch_layer.backward(x, cache, 1.0, 1.0)
    d_x_2, grads_2 = snp.switch_layer.backward(x, cache_2, 1.0, 1.0)
    np.testing.assert_allclose(d_x_2, d_x, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(grads_2["w_in"], grads["w_in"][order], rtol=1e-10, atol=1e-11)


def test_balance_loss_is_one_at_uniform_and_can_lie_below():
    even = np.full((8, 4), 0.25)
    config = snp.SwitchConfig(num_experts=4)
    params = {"w_router": np.zeros((2, 4)), "w_in": np.zeros((4, 2, 3)),
              "w_out": np.zeros((4, 3, 2))}
    out, _ = snp.switch_layer.forward(params, np.ones((8, 2)), config)
    np.testing.assert_array_equal(out.probs, even)
    assert out.balance_loss == 1                 # whichever experts the tie gives
    probs = np.array([[0.51, 0.49]] * 9 + [[0.01, 0.99]])
    params = {"w_router": np.eye(2), "w_in": np.zeros((2, 2, 1)), "w_out": np.zeros((2, 1, 2))}
    out, _ = snp.switch_layer.forward(params, np.log(probs), snp.SwitchConfig(num_experts=2))
    assert round(float(out.balance_loss), 3) == 0.936


@pytest.mark.parametrize("seed", range(20))
def test_plan_counts(seed):
    rng = np.random.default_rng(seed)
    config, (b, s) = random_config(rng)
    params, x, padding, _ = layer_problem(seed, config, shape=(b, s), padded=0.2, training=False)
    plan = snp.switch_layer.forward(params, x, config, padding=padding)[0].plan
    real = int((~padding).sum())
    assert plan.balance_count.sum() == plan.balance_tokens.sum() == real
    assert plan.load.sum() == real * config.top_k
    np.testing.assert_array_equal(plan.kept_load, np.minimum(plan.load, plan.capacity))
    assert plan.kept.sum() == len(plan.token) == plan.kept_load.sum()
    assert not plan.kept[padding.ravel()].any()
    np.testing.assert_array_equal(plan.slot >= 0, plan.kept)
    assert plan.slot.max(initial=-1) < max(plan.capacity, 0) or not plan.kept.any()
    owner = plan.expert[plan.token, plan.choice]
    assert (np.diff(owner) >= 0).all() and (np.diff(plan.row) > 0).all()
    assert ((plan.row >= plan.start[owner]) & (plan.row < plan.start[owner + 1])).all()
    if config.layout == "buffers":
        groups = plan.load.shape[0]
        assert plan.num_rows == config.num_experts * groups * plan.capacity
        slot = plan.slot[plan.token, plan.choice]
        np.testing.assert_array_equal(
            plan.row, (owner * groups + plan.group[plan.token]) * plan.capacity + slot)


@pytest.mark.parametrize("layout", ["packed", "buffers"])
def test_dispatch_and_combine_are_adjoint(layout):
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.8, layout=layout)
    plan = decide(rng.random((15, 4)), config)
    x, rows = rng.standard_normal((15, 3)), rng.standard_normal((plan.num_rows, 3))
    there = (dispatch.forward(x, plan) * rows).sum()
    back = (x * dispatch.backward(rows, plan)).sum()
    np.testing.assert_allclose(there, back, rtol=1e-13)
    ones = np.ones((15, 2))
    np.testing.assert_allclose(combine.forward(rows, ones, plan)[0], dispatch.backward(rows, plan))


@pytest.mark.parametrize("top_k", [1, 2])
def test_both_layouts_agree(top_k):
    config = snp.SwitchConfig(num_experts=5, top_k=top_k, capacity_factor=1.0, groups=2,
                              expert_dropout=0.3)
    params, x, padding, noise = layer_problem(4, config, shape=(30,), padded=0.1)
    results = []
    for layout in ("packed", "buffers"):
        out, cache = snp.switch_layer.forward(
            params, x, replace(config, layout=layout), padding=padding, noise=noise, training=True)
        results.append((out.y, *snp.switch_layer.backward(x, cache, 0.5, 0.5)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-12, atol=1e-12)
    for name, value in results[0][2].items():
        np.testing.assert_allclose(value, results[1][2][name], rtol=1e-11, atol=1e-12)


def test_one_expert_with_room_for_all_is_the_dense_network():
    from switch_np.switch import feed_forward

    config = snp.SwitchConfig(num_experts=1, capacity_factor=1.0)
    params, x, _, _ = layer_problem(0, config, training=False)
    dense = {"w_in": params["w_in"][0], "w_out": params["w_out"][0]}
    out, cache = snp.switch_layer.forward(params, x, config)
    want, dense_cache = feed_forward.forward(dense, x)
    np.testing.assert_array_equal(out.y, want)
    d_x, grads = snp.switch_layer.backward(x, cache)
    want_d_x, want_grads = feed_forward.backward(x, dense_cache)
    np.testing.assert_array_equal(d_x, want_d_x)
    np.testing.assert_array_equal(grads["w_in"][0], want_grads["w_in"])
    assert not grads["w_router"].any()           # one expert: p = 1 whatever the router says


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["packed", "buffers"])
@pytest.mark.parametrize("top_k, jitter", [(1, 0.01), (2, 0.01), (1, 0.0)])
def test_inputs_stay_as_they_were_runs_agree_bit_for_bit_and_dtypes_stay(dtype, layout, top_k,
                                                                         jitter):
    config = snp.SwitchConfig(num_experts=4, top_k=top_k, layout=layout, router_dropout=0.2,
                              jitter=jitter, sample=True, expert_dropout=0.3, groups="rows")
    rng = np.random.default_rng(0)
    params = snp.switch_layer.init(rng, 5, 7, config, dtype=dtype)
    x = rng.standard_normal((3, 8, 5)).astype(dtype)
    padding = rng.random((3, 8)) < 0.2
    for array in (*params.values(), x, padding):
        array.flags.writeable = False
    results = []
    for _ in range(2):
        out, cache = snp.switch_layer.forward(params, x, config, padding=padding, training=True,
                                              rng=np.random.default_rng(7))
        d_x, grads = snp.switch_layer.backward(x, cache, 0.5, 0.25)
        results.append([out.y, out.balance_loss, out.z_loss, out.probs, d_x, *grads.values()])
    for first, second in zip(*results):
        assert first.dtype == dtype
        np.testing.assert_array_equal(first, second)


def test_a_plan_is_replayed():
    config = snp.SwitchConfig(num_experts=3, capacity_factor=1.0)
    params, x, _, _ = layer_problem(0, config, training=False)
    plan = snp.switch_layer.forward(params, x, config)[0].plan
    other = {**params, "w_router": -params["w_router"]}
    out, _ = snp.switch_layer.forward(other, x, config, plan=plan)
    assert out.plan is plan
    np.testing.assert_array_equal(out.gates, np.take_along_axis(out.probs, plan.expert, 1))


def test_a_plan_is_read_only_and_leaves_the_caller_s_array_alone():
    expert = np.array([[0], [1], [0]])
    plan = fill(expert, 2, capacity=1)
    arrays = [value for value in vars(plan).values() if isinstance(value, np.ndarray)]
    for array in (*arrays, plan.kept_load, plan.row_of_choice, plan.choice_of_row,
                  plan.token_of_row):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    expert[:] = 1
    assert plan.expert[:, 0].tolist() == [0, 1, 0]


def test_noise_is_replayed_and_expert_dropout_stays_with_its_token():
    config = snp.SwitchConfig(num_experts=3, capacity_factor=None, expert_dropout=0.5, jitter=0.0)
    params, x, _, noise = layer_problem(0, config)
    first, _ = snp.switch_layer.forward(params, x, config, noise=noise, training=True)
    order = np.random.default_rng(0).permutation(len(x))
    moved = noise._replace(expert_dropout=noise.expert_dropout[order])
    second, _ = snp.switch_layer.forward(params, x[order], config, noise=moved, training=True)
    np.testing.assert_allclose(second.y, first.y[order], rtol=1e-13, atol=1e-13)


def test_sampling_follows_the_softmax():
    config = snp.SwitchConfig(num_experts=3, sample=True, jitter=0.0)
    params = {"w_router": np.log([[0.2, 0.5, 0.3]]), "w_in": np.ones((3, 1, 1)),
              "w_out": np.ones((3, 1, 1))}
    out, _ = snp.switch_layer.forward(params, np.ones((20000, 1)), config, training=True,
                                      rng=np.random.default_rng(0))
    np.testing.assert_allclose(out.plan.load[0] / 20000, [0.2, 0.5, 0.3], atol=0.01)
    chosen = out.plan.expert[:, 0]
    np.testing.assert_allclose(out.gates[:, 0], np.array([0.2, 0.5, 0.3])[chosen])


def test_margins_are_the_distance_to_another_choice():
    scores = np.array([[0.5, 0.3, 0.2], [0.4, 0.39, 0.21], [0.1, 0.2, 0.7]])
    plan = decide(scores, snp.SwitchConfig(num_experts=3, top_k=2, capacity=2))
    found = margins(scores, plan)
    np.testing.assert_allclose(found.choice, [0.1, 0.01, 0.1])
    assert found.contested.tolist() == [True, True, True]     # expert 1 is asked for three times
    one = decide(np.ones((2, 1)), snp.SwitchConfig(num_experts=1, capacity=2))
    assert np.isinf(margins(np.ones((2, 1)), one).choice).all()


def test_capacity_follows_equation_3_and_its_options():
    capacity = {
        "floor": (snp.SwitchConfig(num_experts=4, capacity_factor=1.25), 10, 3),
        "minimum": (snp.SwitchConfig(num_experts=4, min_capacity=4), 10, 4),
        "absolute": (snp.SwitchConfig(num_experts=4, capacity=7), 10, 7),
        "none": (snp.SwitchConfig(num_experts=4, capacity_factor=None), 10, None),
        "per choice": (snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0,
                                        capacity_per_choice=True), 10, 5),
        "evaluation": (snp.SwitchConfig(num_experts=4, eval_capacity_factor=2.0), 10, 5)}
    for name, (config, tokens, want) in capacity.items():
        assert config.expert_capacity(tokens) == want, name
    assert capacity["evaluation"][0].expert_capacity(10, training=True) == 3


def test_memory_has_no_tokens_by_experts_by_capacity_array():
    import tracemalloc

    config = snp.SwitchConfig(num_experts=64, capacity_factor=1.0)
    rng = np.random.default_rng(0)
    params = snp.switch_layer.init(rng, 8, 16, config, dtype=np.float32)
    x = rng.standard_normal((8192, 8)).astype(np.float32)
    tracemalloc.start()
    _, cache = snp.switch_layer.forward(params, x, config)
    snp.switch_layer.backward(x, cache)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 4 * 8192 * (8 + 64 + 16)      # T x E x C alone would be 268 MB


def test_ids_of_eight_bits_fill_many_groups():
    """An id times the groups takes more bits than the ids have."""
    expert = np.arange(99)[:, None]
    for kind in (np.int8, np.uint8):
        plan = fill(expert.astype(kind), 100, capacity=2, num_groups=33)
        assert plan.expert.dtype == int and plan.load.sum() == plan.kept.sum() == 99


def test_backward_after_a_complex_forward_is_linear():
    """A complex d_y is its real part and i times its imaginary one."""
    config = snp.SwitchConfig(num_experts=3, top_k=2, capacity_factor=1.0)
    params, x, _, _ = layer_problem(0, config, training=False)
    _, real = snp.switch_layer.forward(params, x, config)
    _, both = snp.switch_layer.forward({name: value + 0j for name, value in params.items()}, x + 0j,
                                       config)
    d_y = np.random.default_rng(1).standard_normal((2, *x.shape))
    d_x, grads = snp.switch_layer.backward(d_y[0] + 1j * d_y[1], both)
    for part, upstream in zip((np.real, np.imag), d_y):
        want_x, wanted = snp.switch_layer.backward(upstream, real)
        for got, want in ((d_x, want_x), *((grads[name], wanted[name]) for name in wanted)):
            np.testing.assert_allclose(part(got), want, rtol=1e-12, atol=1e-12)
