"""Who gets a slot; `test_bind` compares it with loops."""

import numpy as np
import pytest
from conventions.random_layers import problem
from judges import paper_loops

import switch_np as snp
from switch_np.conventions import serve
from switch_np.conventions.table import Conventions


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


def test_groups_of_the_balance_loss_divide_the_tokens():
    config = snp.SwitchConfig(num_experts=2, conventions=Conventions(balance_groups=3))
    with pytest.raises(ValueError, match=r"balance_groups must divide the number of tokens, 4, "):
        serve.decide(np.ones((4, 2)), np.ones((4, 2)), config)


def test_no_token_is_left_behind_in_mesh_tensorflow():
    """It decides as appendix B; f counts all experts that might be asked, over their number."""
    config = snp.SwitchConfig.like("mesh_tf_ntlb", num_experts=5, tries=3, min_capacity=0,
                                   eval_capacity_factor=0.9)
    params, x, *_ = problem(np.random.default_rng(2), config, group_size=20)
    out, _ = snp.switch_layer.forward(params, x, config)
    papers = snp.SwitchConfig(num_experts=5, tries=3, capacity=3)
    want = paper_loops.forward(params, x.reshape(-1, x.shape[-1]), papers)
    assert np.array_equal(out.plan.expert, want.expert) and np.array_equal(out.plan.kept, want.kept)
    assert 0 < (out.plan.expert[:, 0] != out.probs.argmax(axis=1)).sum()
    asked = np.argsort(-out.probs, axis=1)[:, :3]
    counts = np.array([(asked == e).sum() for e in range(5)])
    loss = 5 * (counts / (3 * len(asked)) * out.probs.mean(axis=0)).sum()
    np.testing.assert_allclose(out.balance_loss, loss, rtol=1e-14)
