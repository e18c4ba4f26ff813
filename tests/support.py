"""What several tests need: random problems, and the layer and the model under the complex step."""

import inspect
import types

import numpy as np

import switch_np as snp
from switch_np import model
from switch_np.conventions.noise import draw_noise
from switch_np.operations import tree
from switch_np.operations import gradcheck
from switch_np.transformer.model_config import ModelConfig


def lively(rng, tree_of_arrays, spread=0.3):
    """Move every parameter off its start, so that no scale is 1 and no bias is 0."""
    return tree.apply(lambda a: a + spread * rng.standard_normal(a.shape), tree_of_arrays)


def layer_problem(seed, config, shape=(12,), d_model=5, d_ff=7, padded=0.0, training=True):
    """Return params, x, padding and noise for one random problem."""
    rng = np.random.default_rng(seed)
    params = lively(rng, snp.switch_layer.init(rng, d_model, d_ff, config, scale=2.0))
    x = rng.standard_normal((*shape, d_model))
    padding = rng.random(shape) < padded if padded else None
    noise = draw_noise(rng, config, int(np.prod(shape)), d_model, d_ff) if training else None
    return params, x, padding, noise


def check_layer(seed, config, **options):
    """Compare every gradient of the layer with the complex step; return the plan that was used."""
    params, x, padding, noise = layer_problem(seed, config, **options)
    training = noise is not None
    out, _ = snp.switch_layer.forward(params, x, config, padding=padding, noise=noise,
                                      training=training)

    def forward(inputs):
        out_, cache = snp.switch_layer.forward(
            inputs["params"], inputs["x"], config, plan=out.plan, padding=padding, noise=noise,
            training=training)
        return (out_.y, out_.balance_loss, out_.z_loss, out_.probs, out_.logits), cache

    def backward(d_y, d_balance, d_z, d_probs, d_logits, cache):
        d_x, grads = snp.switch_layer.backward(d_y, cache, float(d_balance), float(d_z),
                                               d_probs=d_probs, d_logits=d_logits)
        return {"x": d_x, "params": grads}

    gradcheck.check_backward(forward, backward, {"x": x, "params": params},
                             np.random.default_rng(seed + 1))
    return out.plan


TINY = dict(vocab_size=7, d_model=4, d_ff=5, num_heads=2, d_kv=3, num_layers=3, num_buckets=4,
            max_distance=8, balance_coef=0.3, z_coef=0.2, init_scale=2.0)


def model_problem(seed, config, b=2, s=6, padded=True):
    """Return parameters and a batch with ignored targets and padding."""
    rng = np.random.default_rng(seed)
    params = lively(rng, model.init(rng, config))
    ids, targets = rng.integers(0, config.vocab_size, (2, b, s))
    targets[0, 1] = -100
    padding = None
    if padded:
        padding = np.zeros((b, s), bool)
        padding[-1, -2:] = True
        padding[0, 0] = True
    if config.encoder is None:
        return params, model.Batch(ids, targets, padding)
    source = rng.integers(0, config.vocab_size, (b, s + 1))
    source_padding = np.arange(s + 1) >= s + 1 - np.arange(b)[:, None] if padded else None
    return params, model.Batch(ids, targets, padding, source, source_padding)


def check_model(seed, config=None, training=True, **sizes):
    """Compare every gradient of the whole model with the complex step; return the plans."""
    config = config or ModelConfig(**TINY)
    params, batch = model_problem(seed, config, **sizes)
    noise = model.draw_noise(np.random.default_rng(seed), config, batch.inputs.shape,
                             source_shape=None if batch.source is None else batch.source.shape)
    noise = noise if training else None
    rng = np.random.default_rng(seed)
    loss, grads = model.loss_and_grads(params, batch, config, noise=noise, rng=rng,
                                       training=training)
    flat, grads = tree.flatten(params), tree.flatten(grads)
    assert list(grads.keys() ^ flat.keys()) == []
    for name, value in flat.items():
        want = gradcheck.complex_step(
            lambda moved, name=name: model.loss(
                tree.unflatten(flat | {name: moved}), batch, config, plans=loss.plans,
                noise=noise, rng=rng, training=training).total, value)
        gradcheck.compare(name, grads[name], want)
    return loss.plans


def broken(module, right, wrong):
    """Return a copy of a module in which one line says something else."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{module.__name__} no longer says {right!r} just once"
    copy = types.ModuleType(module.__name__)
    exec(compile(source.replace(right, wrong), module.__name__, "exec"), copy.__dict__)
    return copy
