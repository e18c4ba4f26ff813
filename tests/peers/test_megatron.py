"""NVIDIA/Megatron-LM: transformer/moe test_routers, test_aux_loss, test_token_dispatcher.

They state properties, few numbers. Not put: what several ranks do.
"""

import numpy as np
import pytest
from peers.layers import identity_experts, random_layer

import switch_np as snp
from switch_np.conventions import selection_bias
from switch_np.operations.rounded import Bfloat16

PLAIN = {"expert_biases": False, "router_bias": False}
X = np.random.default_rng(1).standard_normal((2, 32, 12))


def made(e=32, k=8, **settings):
    config = snp.SwitchConfig.like("megatron", num_experts=e, top_k=k, **PLAIN, **settings)
    return random_layer(config), config


def router_gradient(params, x, config, d_balance=0.0, d_z=0.0, padding=None):
    out, cache = snp.switch_layer.forward(params, x, config, padding=padding)
    _, grads = snp.switch_layer.backward(np.zeros_like(x), cache, d_balance, d_z)
    return out, grads["w_router"]


@pytest.mark.parametrize("losses, reached", [((0, 0), False), ((1, 0), True), ((0, 1), True)])
def test_without_a_gradient_of_the_output_only_losses_reach_the_router(losses, reached):
    params, config = made(4, 2)
    assert params["w_router"].size == 12 * 4
    assert router_gradient(params, X, config, *losses)[1].any() == reached


@pytest.mark.parametrize("experts, router, types", [
    ("bfloat16", "bfloat16", (Bfloat16, Bfloat16)), ("bfloat16", None, (np.ndarray, Bfloat16))])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_router_may_have_a_precision_of_its_own(experts, router, types, dtype):
    params, config = made(4, 2)
    params = {name: value.astype(dtype) for name, value in params.items()}
    out, _ = snp.switch_layer.forward(snp.switch_layer.in_precision(params, experts, router),
                                      X.astype(dtype), config)
    assert (type(out.probs), type(out.y)) == types and out.probs.dtype == dtype


@pytest.mark.parametrize("factor", [None, 1.0, 2.0])
@pytest.mark.parametrize("priority", ["weight", "token"])
@pytest.mark.parametrize("layout", ["packed", "buffers"])
def test_token_dropping(factor, priority, layout):
    params, config = made(4, 2, capacity_factor=factor, priority=priority, layout=layout)
    plan = snp.switch_layer.forward(params, X[0], config)[0].plan
    if factor is None:
        assert plan.kept.all()
    else:
        assert plan.kept.sum() <= 64 * factor and plan.kept_load.max() <= 16 * factor
        assert layout == "packed" or plan.num_rows == 64 * factor


@pytest.mark.parametrize("groups", ["all", "rows"])
def test_uniform_routing_has_a_loss_of_1(groups):
    params, config = made(groups=groups)
    params["w_router"] = np.full((12, 32), 1 / 384)
    out, _ = snp.switch_layer.forward(params, X, config)
    assert float(out.balance_loss) == pytest.approx(1, abs=1e-12)


def test_loss_by_sequence():
    params, whole = made()
    _, rows = made(groups="rows")
    parts = [router_gradient(params, X[i:i + 1], whole, 1.0) for i in (0, 1)]
    for i in (0, 1):
        alone = router_gradient(params, X[i:i + 1], rows, 1.0)
        assert alone[0].balance_loss == parts[i][0].balance_loss
        np.testing.assert_array_equal(alone[1], parts[i][1])
    both = router_gradient(params, X, rows, 1.0)
    assert float(both[0].balance_loss) == pytest.approx(
        float(sum(part[0].balance_loss for part in parts)) / 2, rel=1e-12)
    np.testing.assert_allclose(2 * both[1], parts[0][1] + parts[1][1], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("groups", ["all", "rows"])
@pytest.mark.parametrize("losses", [(1.0, 0.0), (0.0, 1.0)])
def test_padding_counts_in_no_loss_and_moves_no_other_token(groups, losses):
    params, config = made(groups=groups)
    padding = np.tile(np.arange(32) >= 16, (2, 1))
    a, grad_a = router_gradient(params, X, config, *losses, padding)
    b, grad_b = router_gradient(params, np.ascontiguousarray(X[:, :16]), config, *losses)
    assert [float(a.balance_loss), float(a.z_loss)] == pytest.approx(
        [float(b.balance_loss), float(b.z_loss)], rel=1e-12)
    np.testing.assert_allclose(grad_a, grad_b, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(a.gates[~padding.ravel()], b.gates, rtol=1e-12)
    np.testing.assert_array_equal(a.plan.expert[~padding.ravel()], b.plan.expert)


@pytest.mark.parametrize("kept, groups", [(3, 8), (2, 4)])
@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_at_most_so_many_groups_are_used(kept, groups, scores):
    params, config = made(16, 4, select_groups=groups, select_groups_kept=kept, scores=scores)
    used = snp.switch_layer.forward(params, X, config)[0].plan.expert // (16 // groups)
    assert all(len(set(row)) <= kept for row in used.tolist())


@pytest.mark.parametrize("k, kept, groups", [(4, 2, 4), (4, 3, 8), (4, 2, 8), (8, 2, 4), (2, 2, 4)])
def test_which_groups_are_used(k, kept, groups):
    """A group's score is there the sum of its best k // kept; the preset says so by itself."""
    params, config = made(16, k, select_groups=groups, select_groups_kept=kept)
    assert config.conventions.select_group_best == k // kept
    x = np.random.default_rng(2).standard_normal((512, 12))
    out, _ = snp.switch_layer.forward(params, x, config)
    size = 16 // groups
    for probs, chosen in zip(out.probs, out.plan.expert.tolist()):
        score = [sum(sorted(probs[g * size:(g + 1) * size])[-(k // kept):]) for g in range(groups)]
        best = sorted(range(groups), key=lambda g: -score[g])[:kept]
        open_ = [e for e in range(16) if e // size in best]
        assert chosen == sorted(open_, key=lambda e: -probs[e])[:k]


@pytest.mark.parametrize("factor", [None, 0.5, 1.0])
def test_what_is_dispatched_comes_back(factor):
    _, config = made(8, 2, capacity_factor=factor, expert_activation="relu")
    params, x = identity_experts(12, config), X.reshape(-1, 12)
    params["w_router"] = 1e-12 * np.random.default_rng(2).standard_normal((12, 8))
    out, cache = snp.switch_layer.forward(params, x, config)
    share = out.plan.kept.sum(axis=1, keepdims=True) / 2
    assert (share < 1).any() == (factor is not None)
    np.testing.assert_allclose(out.y, x * share, rtol=1e-9, atol=1e-12)
    d_x, _ = snp.switch_layer.backward(x, cache)
    np.testing.assert_allclose(d_x, x * share, rtol=1e-6, atol=1e-9)


def test_buffers_of_fixed_size_change_nothing():
    results = []
    for layout in "packed", "buffers":
        params, config = made(8, 2, capacity_factor=0.5, layout=layout)
        out, cache = snp.switch_layer.forward(params, X, config)
        results.append((out.y, snp.switch_layer.backward(out.y, cache)[0]))
    for packed, buffers in zip(*results):
        np.testing.assert_allclose(packed, buffers, rtol=1e-9, atol=1e-14)


def test_the_selection_bias_moves_against_the_load():
    params, config = made(8, 2, scores="sigmoid", select_bias=True)
    load = snp.switch_layer.forward(params, X, config)[0].plan.load.sum(axis=0)
    bias = selection_bias.updated(params["select_bias"], load, 0.1)
    np.testing.assert_allclose(bias, 0.1 * np.sign(load.mean() - load))
    assert bias.any()
