"""microsoft/tutel: tests/test_baseline.json: losses of its helloworld, by torch's seeds, of GPUs.

In float64 five steps are trained (SGD, 1e-5); the peer compares them to one decimal. And its loss
of importance and load, whose load compares scores without noise to logits with it.
"""

import numpy as np
import pytest
from peers.layers import like

import switch_np as snp
from switch_np.conventions import variation_losses
from switch_np.operations import softmax

pytestmark = pytest.mark.crosscheck
D = 2048


@pytest.fixture
def problem(torch):
    def drawn(e, dtype, batch):
        torch.set_default_dtype(torch.float64 if dtype is np.float64 else torch.float32)
        try:
            torch.manual_seed(1)
            pairs = [[torch.nn.Linear(D, D) for _ in range(2)] for _ in range(e)]
            torch.manual_seed(1)
            gate = torch.nn.Linear(D, e, bias=False)
            torch.manual_seed(0)
            x = torch.randn([batch, 1024, D], dtype=torch.float32).numpy().astype(dtype)
        finally:
            torch.set_default_dtype(torch.float32)
        params = {"w_router": np.ascontiguousarray(gate.weight.detach().numpy().T)}
        for i, name in enumerate(("in", "out")):
            params["w_" + name] = np.stack([p[i].weight.detach().numpy().T for p in pairs])
            params["b_" + name] = np.stack([p[i].bias.detach().numpy() for p in pairs])
        return params, x
    return drawn


def losses(params, x, config, steps):
    """Yield the loss of each step: each row's first token is the class to be found."""
    for step in range(steps):
        out, cache = snp.switch_layer.forward(params, x, config, training=True)
        z = out.y.sum(axis=2)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        yield -np.log(p[:, 0]).mean()
        if step + 1 < steps:
            p[:, 0] -= 1
            d_y = np.repeat((p / len(x))[:, :, None], D, axis=2).astype(x.dtype)
            _, grads = snp.switch_layer.backward(d_y, cache)
            params = {name: v - x.dtype.type(1e-5) * grads[name] for name, v in params.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("k, e, dtype, batch, want", [
    (2, 2, np.float64, 1, [27.448386457158, 16.62704052924519, 7.467060806621459, .5762248991293285,
                           .03547520289993352]),
    (1, 1, np.float32, 16, [29.98500633239746]), (1, 2, np.float32, 16, [22.07648277282715]),
    (2, 2, np.float32, 16, [24.08013153076172])])
def test_losses(problem, k, e, dtype, batch, want):
    params, x = problem(e, dtype, batch)
    found = list(losses(params, x, like("tutel", e, top_k=k), len(want)))
    np.testing.assert_allclose(found, want, rtol=3e-7 if dtype is np.float64 else 2e-5)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_importance_and_load(torch, k, rng):
    """Against the same loss by torch's own variance, normal distribution and differentiation."""
    logits, noise = rng.standard_normal((9, 4)), rng.standard_normal((9, 4)) / 4
    given = torch.tensor(logits, requires_grad=True)
    scores, noisy = torch.softmax(given, 1), given + torch.tensor(noise)
    chance = torch.distributions.Normal(0.0, 1 / 4).cdf(scores - noisy.topk(k, 1)[0][:, -1:])
    want = sum(v.var() / (v.mean() ** 2 + 1e-10) for v in (scores.sum(0), chance.sum(0))) / 2
    want.backward()

    probs, constants = softmax.forward(logits)[0], {"ddof": 1, "eps": 1e-10}
    importance, cache = variation_losses.importance(probs, **constants)
    d_probs = variation_losses.importance_backward(.5, cache)
    load, cache = variation_losses.load(probs, logits + noise, 1 / 4, k, **constants)
    d_clean, d_noisy, _ = variation_losses.load_backward(.5, cache)
    d_logits = softmax.backward(d_probs + d_clean, probs) + d_noisy
    assert float(importance + load) / 2 == pytest.approx(want.item(), rel=1e-9)
    np.testing.assert_allclose(d_logits, given.grad.numpy(), rtol=1e-9, atol=1e-12)
