"""AI-Hypercomputer/maxtext: unit/moe_test: dropping masks, DeepSeek's routing and its bias."""

import numpy as np
import pytest

import switch_np as snp
from switch_np import Noise, plans
from switch_np.conventions import choose, selection_bias

CHOSEN = np.array([[0, 5], [0, 4], [1, 0], [3, 5], [1, 2], [4, 1], [5, 0], [7, 1],
                   [6, 2], [2, 3], [4, 2], [1, 2], [4, 1], [0, 7], [5, 0], [4, 7]])
# The combine weight of each choice, 0 where it is dropped, and its slot.
KEPT = [[.2, .8], [.68, .32], [.78, 0], [.32, .68], [.26, .74], [.21, .79], [.11, .89], [.89, 0],
        [.74, .26], [.88, .12], [.83, 0], [.35, 0], [.53, .47], [.36, .64], [.85, .15], [.18, .82]]
SLOT = [[0, 0], [1, 0], [0, -1], [0, 1], [0, 0], [0, 1], [0, 0], [0, -1],
        [0, 0], [1, 0], [0, -1], [0, -1], [0, 0], [0, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("row", range(4))
def test_masks_where_tokens_are_dropped(row):
    """Four tokens share buffers of two slots, which fill token by token."""
    config = snp.SwitchConfig.like("megablocks", num_experts=8, top_k=2, capacity_factor=2.0,
                                   groups="rows", renorm="pre")
    plan = plans.from_choices(CHOSEN, config, num_groups=4, training=True)
    own = slice(4 * row, 4 * row + 4)
    assert plan.capacity == 2
    assert plan.slot[own].tolist() == SLOT[own]
    np.testing.assert_array_equal(plan.kept[own], np.array(KEPT[own]) > 0)


@pytest.mark.parametrize("row", range(4))
def test_weights_where_tokens_are_dropped(row):
    """The same through the layer, whose scores are these weights; those of dropped choices too."""
    full = np.where(np.array(KEPT) > 0, KEPT, 1 - np.sum(KEPT, axis=1, keepdims=True))
    probs = np.full((16, 8), 1e-9)
    np.put_along_axis(probs, CHOSEN, full, axis=1)
    config = snp.SwitchConfig.like("megablocks", num_experts=8, top_k=2, capacity_factor=2.0,
                                   groups=4, renorm="pre")
    params = {n: np.zeros(s) for n, s in snp.switch_layer.shapes(8, 2, config).items()}
    out, _ = snp.switch_layer.forward(params | {"w_router": np.eye(8)}, np.log(probs), config,
                                      training=True)
    own = slice(4 * row, 4 * row + 4)
    order = np.argsort(out.plan.expert[own], axis=1)
    theirs = np.argsort(CHOSEN[own], axis=1)
    found = np.where(out.plan.kept, out.gates, 0)[own]
    np.testing.assert_allclose(np.take_along_axis(found, order, axis=1),
                               np.take_along_axis(np.array(KEPT)[own], theirs, axis=1), atol=1e-8)


@pytest.mark.parametrize("token, scores, want", [
    (0, [.20, .10, .05, .10, .10, .60, .30, .10, .80, .01, .01, .01, .05, .80, .20, .10],
     [13, 5, 6, 14]),
    (1, [.68, .20, .06, .03, .32, .10, .05, .02, .65, .20, .04, .01, .32, .10, .05, .02],
     [0, 8, 1, 9])])
def test_deepseek_routing(token, scores, want):
    """The scores are those with the bias, which the gates do without."""
    config = snp.SwitchConfig.like("hf_deepseek_v3", num_experts=16, select_groups=4,
                                   select_groups_kept=2, top_k=4)
    bias = np.random.default_rng(token).random(16)
    plain = np.array([scores]) - bias
    ranked = choose.ranked(plain, plain, config.conventions, Noise(), bias)
    assert choose.choose(ranked, plain, 4, config.conventions, Noise()).tolist() == [want]


@pytest.mark.parametrize("chosen, e, rate, want", [
    ([[0, 1], [3, 0], [3, 1], [1, 0], [0, 3], [2, 0], [1, 2], [2, 3]], 4, .01, [-.01, 0, .01, 0]),
    ([[0, 2]], 3, .1, [-.1, .1, -.1])])
@pytest.mark.parametrize("padded", [False, True])
def test_bias_update(chosen, e, rate, want, padded):
    """Padding is attributed to no expert."""
    config = snp.SwitchConfig(num_experts=e, top_k=2, capacity_factor=None)
    padding = np.arange(len(chosen) + 1) == len(chosen)
    chosen = np.array([*chosen, [-1, -1]]) if padded else np.array(chosen)
    plan = plans.from_choices(chosen, config, padding=padding if padded else None)
    found = selection_bias.updated(np.zeros(e), plan.load.sum(axis=0), rate)
    np.testing.assert_allclose(found, want, atol=1e-15)
