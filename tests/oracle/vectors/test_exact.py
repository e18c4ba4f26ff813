"""The exact set: no sum rounds, in whatever order and precision it is computed."""

import numpy as np
import pytest

from switch_np import oracle
from switch_np.operations.precision import round_to
from switch_np.oracle.vectors import exact
from switch_np.oracle.vectors.cases import CASES


def added(left, right, kind, rng):
    """Return a matrix product, each product and each sum rounded, in a random order."""
    total = np.zeros((left.shape[0], right.shape[1]))
    for n in rng.permutation(left.shape[1]):
        total = round_to(total + round_to(left[:, n, None] * right[None, n], kind), kind)
    return total


def run_exactly(asked, plan, kind, rng):
    """Return a layer's numbers, everything rounded at once, tokens and experts in random order."""
    x, d_y, params, e = asked["x"], asked["d_y"], asked["params"], asked["config"].num_experts
    real = ~asked.get("padding", np.zeros(len(x), bool))
    logits = added(x, params["w_router"], kind, rng)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = round_to(odds / odds.sum(axis=1, keepdims=True), kind)
    y, d_x, d_probs = np.zeros_like(x), np.zeros_like(x), np.zeros_like(probs)
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    for i in rng.permutation(e):
        token, choice = np.nonzero(plan.kept & (plan.expert == i))
        order = rng.permutation(len(token))
        token, choice = token[order], choice[order]
        gate, rows = probs[token, plan.expert[token, choice]][:, None], x[token]
        before = added(rows, params["w_in"][i], kind, rng)
        hidden = np.maximum(before, 0)
        out = added(hidden, params["w_out"][i], kind, rng)
        y[token] = round_to(y[token] + round_to(gate * out, kind), kind)
        d_out = round_to(gate * d_y[token], kind)
        grads["w_out"][i] = added(hidden.T, d_out, kind, rng)
        d_before = added(d_out, params["w_out"][i].T, kind, rng) * (before > 0)
        grads["w_in"][i] = added(rows.T, d_before, kind, rng)
        d_x[token] = round_to(d_x[token] + added(d_before, params["w_in"][i].T, kind, rng), kind)
        for t, row in zip(token, out):
            d_probs[t, i] += added(d_y[None, t], row[:, None], kind, rng)[0, 0]
    share = np.bincount(plan.expert[real, 0], minlength=e) / real.sum()
    d_probs[real] += round_to(asked["balance_coef"] * e * share / real.sum(), kind)
    inner = added((d_probs * probs)[:, None].reshape(-1, e), np.ones((e, 1)), kind, rng)
    d_logits = round_to(probs * round_to(d_probs - inner, kind), kind)
    grads["w_router"] = added(x.T, d_logits, kind, rng)
    d_x = round_to(d_x + added(d_logits, params["w_router"].T, kind, rng), kind)
    balance = e * (share * probs[real].sum(axis=0) / real.sum()).sum()
    return {"y": y, "balance_loss": np.asarray(balance), "d_x": d_x,
            **{f"d_{name}": grad for name, grad in grads.items()}}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.exact])
def test_every_bit_of_the_exact_set_is_known(name):
    asked, rng = CASES[name].make(), np.random.default_rng(0)
    ref = oracle.reference(**asked)
    assert any(value.any() for value in ref.grads.values())
    for kind in ("float64", "float32", "bfloat16", "float16"):
        for key, value in run_exactly(asked, ref.plan, kind, rng).items():
            assert (value == ref.outputs()[key]).all(), (kind, key)


def test_sums_that_need_more_bits_are_not_exact():
    watching = exact.watching()
    np.full((1, 300), 1.0).view(watching) @ np.full((300, 1), 1.0).view(watching)
    assert watching.most == 300 > exact.BITS
    with pytest.raises(ValueError, match="seed must give short sums"):
        exact.problem(top_k=1, capacity=0, seed=0)
