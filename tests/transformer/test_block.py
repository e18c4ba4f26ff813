"""Block and stack against the complex step, with noise."""

import pytest
from support import TINY, lively

import switch_np as snp
from switch_np import model
from switch_np.operations import gradcheck
from switch_np.transformer import block, model_noise, stack
from switch_np.transformer.model_config import ModelConfig


@pytest.mark.parametrize("layer", [0, 1])
def test_block(rng, layer):
    config = ModelConfig(**TINY, dropout=0.2,
                         switch=snp.SwitchConfig(num_experts=3, expert_dropout=0.3, capacity=2))
    params = lively(rng, model.init(rng, config))["decoder"][str(layer)]
    noise = model_noise.draw_block(rng, config, layer, (2, 3), float)
    x, bias = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 3))
    _, switched, _ = block.forward(params, x, bias, config, noise=noise, training=True)

    def forward(i):
        y, out, cache = block.forward(i["params"], i["x"], i["bias"], config, noise=noise,
                                      plan=switched and switched.plan, training=True)
        losses = (out.balance_loss, out.z_loss) if out else (y.sum() * 0, y.sum() * 0)
        return (y, *losses), cache

    def backward(d_y, d_balance, d_z, cache):
        return dict(zip(["x", "bias", "params"],
                        block.backward(d_y, cache, float(d_balance), float(d_z))))

    gradcheck.check_backward(forward, backward, {"x": x, "bias": bias, "params": params}, rng)


def test_stack(rng):
    config = ModelConfig(**TINY, dropout=0.2, switch=snp.SwitchConfig(num_experts=3))
    params = lively(rng, model.init(rng, config))["decoder"]
    x, kind = rng.standard_normal((2, 3, 4)), config.decoder
    keys = dict(noise=model_noise.draw_stack(rng, config, kind, (2, 3), float), training=True)
    plans = [out.plan for out in stack.forward(params, x, config, kind, **keys)[1]]

    def forward(i):
        y, switched, cache = stack.forward(i["params"], i["x"], config, kind, plans=plans, **keys)
        return (y, sum(out.balance_loss for out in switched)), cache

    gradcheck.check_backward(
        forward, lambda d_y, d_balance, cache: dict(zip(
            ["x", "params"], stack.backward(d_y, cache, float(d_balance)))),
        {"x": x, "params": params}, rng)
