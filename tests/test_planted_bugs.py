"""A check that cannot fail is a defect: plant a bug in each backward, and see the check find it."""

import numpy as np
import pytest
from judges import conventions_loops as their_loops, paper_loops as loops
from support import TINY, broken, check_layer, check_model

import switch_np as snp
from switch_np import plans
from switch_np.conventions import general_network, units
from switch_np.operations import dropout, heads, products, softmax
from switch_np.switch import (
    balance_loss, combine, dispatch, experts, feed_forward, gates, layer, mixture, plan, router,
    z_loss)
from switch_np.transformer import (
    attention, block, cross_entropy, embedding, head, model, norm, position_bias, router_losses,
    stack)
from switch_np.transformer.model_config import ModelConfig

LAYER_BUGS = [
    (softmax, "d_x -= probs * _sum(d_x)", "pass"),
    (feed_forward, "d_linear_TF *= hidden_TF.real > 0", "pass"),
    (router, "d_log_z_T[:, None] * probs_TE", "d_log_z_T[:, None]"),
    (router, "d_all_TE += d_logits_TE", "pass"),
    (router, 'grads["b_router"] = d_all_TE.sum(axis=0)',
     'grads["b_router"] = d_all_TE.mean(axis=0)'),
    (router, "d_x_TD if scale_TD is None else d_x_TD * scale_TD, grads", "d_x_TD, grads"),
    (router, "noisy_TD.T @ d_all_TE", "(noisy_TD * 0.99).T @ d_all_TE"),
    (gates, "cache.plan.expert] = d_gates_TK", "cache.plan.expert[:, ::-1]] = d_gates_TK"),
    (balance_loss, "d_probs_TE[cache.padding_T] = 0", "pass"),
    (balance_loss, "(d_loss * cache.slope_GE)", "(0 * cache.slope_GE)"),
    (z_loss, "d_loss * 2", "d_loss"),
    (z_loss, "d_loss * 2 / cache.real_tokens", "d_loss * 2 / len(cache.log_z_T)"),
    (dispatch, "sums_TD[kept] += rows_RD", "sums_TD[kept] = rows_RD"),
    (combine, "d_y_RD * by_row(gates_TK, plan)[:, None], d_gates", "d_y_RD, d_gates"),
    (combine, 'np.einsum("rd,rd->r", d_y_RD, out_RD)', "d_y_RD.sum(axis=1)"),
    (feed_forward, "d_linear_TF *= 1 / (1 - rate)", "pass"),
    (feed_forward, 'times_transposed(d_y_TD, params["w_out"])',
     'times_transposed(d_y_TD, 2 * params["w_out"])'),
    (experts, "d_out_RD[block], saved", "2 * d_out_RD[block], saved"),
    (mixture, "dispatch.backward(d_rows_RD", "dispatch.backward(0 * d_rows_RD"),
    (layer, "d_x_TD += cast(d_router_x_TD, like=d_x_TD)", "pass"),
    (layer, "else d_balance_TE + d_probs_TE", "else d_balance_TE"),
    (layer, "backward(d_balance, cache.balance)", "backward(0.0, cache.balance)"),
    (layer, "backward(d_z, cache.z)", "backward(0.0, cache.z)"),
]
FEW_ROWS_BUGS = [
    (products, "turned: np.ndarray = (w @ x.T).T", "return 2 * (w @ x.T).T"),
    (products, "out[...] = (w @ x.T).T", "out[...] = 2 * (w @ x.T).T"),
]
MODEL_BUGS = [
    (dropout, "return forward(d_y, keep, rate)", "return d_y"),
    (norm, "d_x_BSD -= np.multiply(x_BSD, mean_BS1 * inverse_BS1 ** 2, out=product_BSD)", "pass"),
    (norm, "d_x_BSD *= inverse_BS1", "pass"),
    (norm, "inverse_BS1.ravel() @", "np.ones(inverse_BS1.size) @"),
    (position_bias, "d_bias_HSM[:, ::-1]", "d_bias_HSM"),
    (attention, "(dropped_BHSM.swapaxes(2, 3), d_context_BHSA)",
     "(probs_BHSM.swapaxes(2, 3), d_context_BHSA)"),
    (heads, "d_product @ _side_by_side(params, products).T", "d_product @ _side_by_side("
     "params, [*products][:1] * len(products)).T"),
    (feed_forward, "d_linear_TF *= 1 / (1 - rate)", "pass"),
    (embedding, "np.add.reduceat(d_x_TD[order], begin, axis=0)", "d_x_TD[order][begin]"),
    (cross_entropy, "(d_loss / counted)", "(d_loss / len(targets_T))"),
    (cross_entropy, "d_logits_TV[np.arange(len(targets_T)), np.where(counts_T, targets_T, 0)] -= 1",
     "pass"),
    (block, "return d_x_BSD + d_branch_BSD", "return d_branch_BSD"),
    (stack, "batch_slices.add(d_bias)", "d_bias[-1]"),
    (head, "d_logits_TV.T @ y_TD, size", "0 * d_logits_TV.T @ y_TD, size"),
    (head, "d_logits_TV @ table_VD * y_TD.shape[1] ** -0.5", "d_logits_TV @ table_VD"),
]
ENCODER_DECODER_BUGS = [
    (units, "d_m_TF * v_TF * _slope", "d_m_TF * _slope"),
    (general_network, "backward(d_hidden_TF, keep_TF, rate)", "backward(d_hidden_TF, None, rate)"),
    (general_network, "d_x_TD + d_gated_TD", "d_x_TD"),
    (router_losses, "balance_loss.backward(d_balance, losses.slope)",
     "balance_loss.backward(d_balance / losses.num_layers, losses.slope)"),
    (router_losses, "d_z / losses.num_layers", "d_z"),
    (block, "cache.noise.cross_out", "None"),
    (block, "norm.backward(d_queries_BSD, ", "norm.backward(0 * d_queries_BSD, "),
    (block, "d_out_BSD, cache.switch, d_balance_loss, d_z_loss, d_probs=d_probs",
     "d_out_BSD, cache.switch, d_balance_loss, d_z_loss"),
    (stack, "batch_slices.add(d_memory)", "d_memory[-1]"),
    (model, "            d_table_VD += d_more_VD", "            pass"),
    (model, "    d_table_VD += d_more_VD\n    if", "    if"),
    (head, "d_logits_TV @ params[\"head\"][\"w_head\"].T",
     "2 * d_logits_TV @ params[\"head\"][\"w_head\"].T"),
]


def plant(monkeypatch, module, right, wrong):
    """Replace a line of a module's backward (or of what it calls) for the length of a test."""
    copy = broken(module, right, wrong)
    for name, value in vars(module).items():      # one class of cache for both
        if isinstance(value, type):
            setattr(copy, name, value)
    for name in ("backward", "sum_by_token", "times_transposed", "merge"):
        right_one = getattr(module, name, None)
        for place in (module, combine, feed_forward):
            if right_one and getattr(place, name, None) is right_one:
                monkeypatch.setattr(place, name, getattr(copy, name))
    if module is balance_loss:
        monkeypatch.setattr(module, "forward", copy.forward)


def check_lively_layer():
    config = snp.SwitchConfig(num_experts=3, top_k=2, router_bias=True, router_dropout=0.2,
                              jitter=0.2, expert_dropout=0.3, capacity_factor=1.0, groups=2)
    assert check_layer(2, config, padded=0.4).dropped_fraction > 0


def check_few_rows():
    check_layer(2, snp.SwitchConfig(num_experts=2), shape=(6,), d_model=16, d_ff=4)


def check_lively_model():
    few = {**TINY, "vocab_size": 5, "d_model": 3, "d_kv": 2, "d_ff": 3}
    check_model(5, ModelConfig(**few, dropout=0.2, switch=snp.SwitchConfig(num_experts=3)))


def check_lively_encoder_decoder():
    few = {**TINY, "vocab_size": 4, "d_model": 3, "d_kv": 1, "d_ff": 2, "num_layers": 2}
    config = ModelConfig(**few, num_encoder_layers=2, encoder_switch_every=1, dropout=0.2,
                         gated=True, tie_embeddings="inputs", router_losses="pooled",
                         switch=snp.SwitchConfig(num_experts=2))
    check_model(5, config, b=2, s=3)


BUGS = {check_lively_layer: LAYER_BUGS, check_few_rows: FEW_ROWS_BUGS,
        check_lively_model: MODEL_BUGS, check_lively_encoder_decoder: ENCODER_DECODER_BUGS}


@pytest.mark.parametrize("check", BUGS)
def test_without_a_bug_the_checks_pass(check):
    check()


@pytest.mark.parametrize("check, bug", [
    pytest.param(check, bug, id=f"{check.__name__}-{bug[0].__name__}: {bug[1]}")
    for check, bugs in BUGS.items() for bug in bugs])
def test_a_bug_is_caught(monkeypatch, check, bug):
    plant(monkeypatch, *bug)
    with pytest.raises((AssertionError, ValueError) if check is check_lively_layer else
                       AssertionError):
        check()


def test_a_missing_factor_of_the_balance_loss_is_caught_by_the_loops(monkeypatch):
    # Forward and backward share the slope, so the complex step cannot know the factor.
    plant(monkeypatch, balance_loss, "e * plan.balance_count", "plan.balance_count")
    config = snp.SwitchConfig(num_experts=3)
    rng = np.random.default_rng(0)
    params, x = snp.switch_layer.init(rng, 4, 5, config), rng.standard_normal((9, 4))
    out, _ = snp.switch_layer.forward(params, x, config)
    assert abs(out.balance_loss - loops.forward(params, x, config).balance_loss) > 0.1


@pytest.mark.parametrize("judge", [loops, their_loops], ids=["paper", "conventions"])
@pytest.mark.parametrize("settings", [{}, {"capacity": 2}, {"min_capacity": 3},
                                      {"capacity_per_choice": True}])
def test_a_wrong_capacity_is_caught_by_the_loops(monkeypatch, judge, settings):
    # Layer and loops both go by the config, but each works the capacity out for itself.
    config = snp.SwitchConfig(num_experts=3, top_k=2, capacity_factor=0.8, **settings)
    rng = np.random.default_rng(0)
    params, x = snp.switch_layer.init(rng, 4, 5, config), rng.standard_normal((9, 4))
    want = judge.forward(params, x, config)
    assert snp.switch_layer.forward(params, x, config)[0].plan.capacity == want.capacity
    right = snp.SwitchConfig.expert_capacity
    monkeypatch.setattr(snp.SwitchConfig, "expert_capacity", lambda *args: right(*args) - 1)
    out, _ = snp.switch_layer.forward(params, x, config)
    want = judge.forward(params, x, config)
    assert out.plan.capacity != want.capacity and (out.plan.kept != want.kept).any()
    assert abs(out.y - want.y).max() > 0.001


def test_a_plan_that_gives_a_slot_twice_is_refused():
    copy = broken(plan, "np.arange(len(slot_N))", "np.arange(len(slot_N)) // 2")
    bad = copy.fill(np.array([[0], [0], [1]]), 2, capacity=2)
    good = plan.Plan(**{name: getattr(bad, name) for name in plan.Plan.__dataclass_fields__})
    with pytest.raises(ValueError, match=r"plan\.row must"):
        plans.check_plan(good, snp.SwitchConfig(num_experts=2), 3, 1)
