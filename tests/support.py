"""What several tests need: random problems, and the layer and the model under the complex step."""

import inspect
import types

import numpy as np

import switch_np as snp
from switch_np import model
from switch_np.conventions import serve
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


def random_config(rng):
    """Return a random config and a shape (B, S) that its groups divide."""
    experts = int(rng.choice([1, 2, 3, 5, 7]))
    groups = rng.choice(["all", "rows", "number"])
    b, s = int(rng.integers(1, 4)), int(rng.integers(0, 9))
    limit = rng.choice(["factor", "absolute", "none"])
    k, sample = int(rng.integers(1, experts + 1)), bool(rng.integers(2))
    tries = [1, int(rng.integers(1, experts + 1)), "all"][rng.integers(3)]
    config = snp.SwitchConfig(
        num_experts=experts, top_k=k, tries=1 if sample or k > 1 else tries,
        groups=b if groups == "number" else str(groups),
        capacity=int(rng.integers(0, 5)) if limit == "absolute" else None,
        capacity_factor=None if limit == "none" else float(rng.uniform(0, 2)),
        eval_capacity_factor=float(rng.uniform(0, 2)), min_capacity=int(rng.integers(0, 3)),
        capacity_per_choice=bool(rng.integers(2)), router_bias=bool(rng.integers(2)),
        jitter=float(rng.choice([0, 0.1])), router_dropout=float(rng.choice([0, 0.3])),
        sample=sample, expert_dropout=float(rng.choice([0, 0.4])),
        layout=str(rng.choice(["packed", "buffers"])))
    return config, (b, s)


DECISIONS = ("expert", "slot", "kept", "load", "capacity")


def same_decisions(out, want, config, params, **options):
    """Whether a judge decides alike; where not, the scores must be equal but for rounding."""
    if all(np.array_equal(getattr(out.plan, name), getattr(want, name)) for name in DECISIONS):
        return True
    found = snp.plans.margins(
        out.probs if options["noise"].gumbel is None else out.logits + options["noise"].gumbel,
        out.plan, config, logits_TE=out.logits, bias_E=params.get("select_bias"), **options)
    keys = serve.keys(out.plan.expert, out.probs, out.logits, config, options["noise"])
    gaps = [] if keys is None else np.diff(np.sort(keys, axis=None))      # who is served first
    assert min(found.choice.min(), found.cut.min(), *gaps) < 1e-13, config
    return False


def check_layer(seed, config, **options):
    """Compare every gradient of a random layer with the complex step; return its plan."""
    params, x, padding, noise = layer_problem(seed, config, **options)
    return check_gradients(params, x, config, np.random.default_rng(seed + 1), padding=padding,
                           noise=noise, training=noise is not None)


def check_gradients(params, x, config, rng, **options):
    """Compare every gradient of the layer with the complex step; return the plan, replayed."""
    plan = snp.switch_layer.forward(params, x, config, **options)[0].plan
    quiet = options["noise"] is None or options["noise"].logits is None
    unused = set(params) & {"select_bias", "balance_f", *(["w_noise"] if quiet else [])}
    checked = {name: value for name, value in params.items() if name not in unused}

    def forward(inputs):
        rest = {name: params[name].astype(inputs["x"].dtype) for name in unused}
        out, cache = snp.switch_layer.forward(inputs["params"] | rest, inputs["x"], config,
                                              plan=plan, **options)
        return (out.y, out.balance_loss, out.z_loss, out.probs, out.logits), cache

    def backward(d_y, d_balance, d_z, d_probs, d_logits, cache):
        d_x, grads = snp.switch_layer.backward(d_y, cache, float(d_balance), float(d_z),
                                               d_probs=d_probs, d_logits=d_logits)
        assert not any(grads.pop(name).any() for name in unused)
        return {"x": d_x, "params": grads}

    found = gradcheck.check_backward(forward, backward, {"x": x, "params": checked}, rng)
    assert set(found) == {"x"} | {f"params.{name}" for name in checked}
    return plan


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
