"""Adafactor against those of transformers, torch.optim and optax, live, and where they differ."""

import os

import numpy as np
import pytest

from switch_np.training import adafactor
from switch_np.training.adafactor import Adafactor

pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("default")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# The last two axes of the three are the largest, which optax would choose.
SHAPES = {"vector": (7,), "matrix": (5, 3), "tall": (3, 6), "experts": (2, 4, 5)}
STEPS = 50


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers.optimization", reason="transformers is not installed")


@pytest.fixture
def optax(jax):
    return pytest.importorskip("optax", reason="optax is not installed")


def problem(steps=STEPS):
    """Return parameters, and the gradients of each step: of many sizes, some of them 0."""
    rng = np.random.default_rng(0)

    def draw(shape, digits):
        return rng.standard_normal(shape) * 10 ** rng.uniform(-digits, digits, shape)

    params = {name: draw(shape, 0.5) for name, shape in SHAPES.items()}
    grads = [{name: draw(shape, 3) for name, shape in SHAPES.items()} for _ in range(steps)]
    for step in grads[3::4]:
        step["tall"][1] = 0
    return params, grads


def ours(config, learning_rate, steps=STEPS):
    """Return the parameters after every step, and the moments after the last."""
    params, grads = problem(steps)
    moments, path = adafactor.init(params, config), []
    for t, grad in enumerate(grads, 1):
        adafactor.step(params, grad, moments, config, learning_rate, t)
        path.append({name: value.copy() for name, value in params.items()})
    return path, moments


def theirs_in_torch(torch, kind, steps=STEPS, of_vectors=(), **options):
    """Return the same of a torch.optim.Optimizer; vectors may have options of their own."""
    params, grads = problem(steps)
    leaves = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in params.items()}
    optimizer = kind([
        {"params": [leaf for leaf in leaves.values() if leaf.ndim == 1], **dict(of_vectors)},
        {"params": [leaf for leaf in leaves.values() if leaf.ndim > 1]}], **options)
    path = []
    for grad in grads:
        for name, leaf in leaves.items():
            leaf.grad = torch.tensor(grad[name])
        optimizer.step()
        path.append({name: leaf.detach().numpy().copy() for name, leaf in leaves.items()})
    return path, {name: optimizer.state[leaf] for name, leaf in leaves.items()}


def theirs_in_optax(optax, transform, steps=STEPS):
    import jax.numpy as jnp

    params, grads = problem(steps)
    params = {name: jnp.asarray(value) for name, value in params.items()}
    state, path = transform.init(params), []
    for grad in grads:
        updates, state = transform.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        path.append({name: np.asarray(value) for name, value in params.items()})
    return path, state


def worst(path, wanted):
    """Return the largest difference on the way, per array as a share of its largest entry."""
    assert len(path) == len(wanted) == STEPS
    for value in path[-1].values():
        assert value.dtype == np.float64 and np.isfinite(value).all()
    return max(np.abs(got[name] - want[name]).max() / np.abs(want[name]).max()
               for got, want in zip(path, wanted) for name in SHAPES)


def assert_equal_moments(moments, states, names):
    for name, shape in SHAPES.items():
        for mine, their in names.items():
            if mine in moments[name]:
                want = states[name][their].numpy().reshape(moments[name][mine].shape)
                np.testing.assert_allclose(moments[name][mine], want, rtol=1e-12, atol=1e-14,
                                           err_msg=f"{name}, {mine}, {shape}")


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("beta_1", [None, 0.9])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_transformers(torch, transformers, scale, relative, beta_1, weight_decay):
    config = Adafactor(beta_1=beta_1, weight_decay=weight_decay, relative_step=relative,
                       scale_parameter=scale)
    path, moments = ours(config, 1e-2 if relative else 0.2)
    wanted, states = theirs_in_torch(
        torch, transformers.Adafactor, of_vectors={"weight_decay": 0.0},
        lr=None if relative else 0.2, beta1=beta_1, weight_decay=weight_decay,
        relative_step=relative, scale_parameter=scale)
    assert worst(path, wanted) < 1e-12
    assert_equal_moments(moments, states, {"row": "exp_avg_sq_row", "column": "exp_avg_sq_col",
                                           "v": "exp_avg_sq", "m": "exp_avg"})


def test_transformers_other_options(torch, transformers):
    config = Adafactor(decay=0.6, epsilon_1=0.1, epsilon_2=5.0, clip_threshold=0.3)
    wanted, _ = theirs_in_torch(torch, transformers.Adafactor, eps=(0.1, 5.0), clip_threshold=0.3,
                                decay_rate=-0.6)
    assert worst(ours(config, 1e-2)[0], wanted) < 1e-12


def test_torch_optim_up_to_weight_decay(torch):
    """With a cap of 0.3 the relative step is 1 / √t from step 12 on."""
    config = Adafactor(decay=0.7, epsilon_2=0.5, clip_threshold=1.5)
    path, moments = ours(config, 0.3)
    wanted, states = theirs_in_torch(torch, torch.optim.Adafactor, lr=0.3, eps=(1e-30, 0.5), d=1.5,
                                     beta2_decay=-0.7)
    assert worst(path, wanted) < 1e-12
    assert_equal_moments(moments, states, {"row": "row_var", "column": "col_var", "v": "variance"})


def decay_in_float64(step, exponent):
    return 1 - (step + 1.0) ** -exponent


@pytest.mark.parametrize("beta_1", [None, 0.9])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_optax_with_its_decay_in_float64(optax, scale, relative, beta_1):
    import jax.numpy as jnp

    config = Adafactor(beta_1=beta_1, relative_step=relative, scale_parameter=scale)
    rate = (lambda count: jnp.minimum(0.3, 1 / jnp.sqrt(count + 1.0))) if relative else 0.1
    parts = [optax.scale_by_factored_rms(min_dim_size_to_factor=1, decay_rate=config.decay,
                                         decay_rate_fn=decay_in_float64),
             optax.clip_by_block_rms(1.0),
             optax.scale_by_learning_rate(rate, flip_sign=False)]
    parts += [optax.scale_by_param_block_rms()] * scale
    if beta_1 is not None:
        parts.append(optax.ema(beta_1, debias=False, accumulator_dtype=jnp.float64))
    wanted, _ = theirs_in_optax(optax, optax.chain(*parts, optax.scale(-1)))
    assert worst(ours(config, 0.3 if relative else 0.1)[0], wanted) < 1e-12


def test_optax_as_it_is_computes_the_decay_in_float32(optax):
    made = optax.adafactor(learning_rate=1e-2, min_dim_size_to_factor=1)
    wanted, _ = theirs_in_optax(optax, made)
    assert 1e-12 < worst(ours(Adafactor(relative_step=False), 1e-2)[0], wanted) < 1e-6


@pytest.mark.parametrize("shape, axes", [((7, 4, 5), (0, 2)), ((2, 4, 5), (1, 2))])
def test_optax_factors_along_the_two_largest_axes(optax, shape, axes):
    sizes = sorted(value.size for value in
                   [optax.scale_by_factored_rms(min_dim_size_to_factor=1).init(
                       np.zeros(shape))[n] for n in (1, 2)])
    assert sizes == sorted(np.prod(shape) // shape[axis] for axis in axes)
    kept = optax.adafactor(1e-2).init(np.zeros((127, 500)))[0]
    assert kept.v.shape == (127, 500) and kept.v_row.shape == (1,)


def test_each_library_scales_the_weight_decay_otherwise(torch, transformers, optax):
    """What λ = 0.1 takes off a parameter in one step, as a fraction; here α = cap · RMS."""
    def taken(run):
        return {name: (run(0.0)[name] - run(0.1)[name]) / params[name] for name in SHAPES}

    params, _ = problem(1)
    found = {
        "ours": taken(lambda decay: ours(Adafactor(weight_decay=decay), 1e-2, 1)[0][0]),
        "transformers": taken(lambda decay: theirs_in_torch(
            torch, transformers.Adafactor, 1, weight_decay=decay)[0][0]),
        "torch": taken(lambda decay: theirs_in_torch(
            torch, torch.optim.Adafactor, 1, weight_decay=decay)[0][0]),
        "optax": taken(lambda decay: theirs_in_optax(
            optax, optax.adafactor(1e-2, weight_decay_rate=decay), 1)[0][0])}
    for name, value in params.items():
        alpha = 1e-2 * np.sqrt(np.mean(value ** 2))
        wanted = {"ours": 0.1 * alpha * (value.ndim > 1), "transformers": 0.1 * alpha,
                  "torch": 0.1 * 1e-2, "optax": 0.1}
        for library in wanted:
            np.testing.assert_allclose(found[library][name], wanted[library], rtol=1e-6, atol=1e-12,
                                       err_msg=f"{library}, {name}")


def test_torch_bounds_the_root_where_the_paper_adds_to_the_square(torch):
    grad, config = np.full(3, 1e-17), Adafactor()
    params = {"x": np.ones(3)}
    adafactor.step(params, {"x": grad}, adafactor.init(params, config), config, 1e-2, 1)
    leaf = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    leaf.grad = torch.tensor(grad)
    torch.optim.Adafactor([leaf]).step()
    np.testing.assert_allclose(1 - params["x"], 1e-2 * 1e-17 / 1e-15, rtol=1e-3)
    np.testing.assert_allclose(1 - leaf.detach().numpy(), 1e-2 * 1e-17 / 2.0 ** -52, rtol=1e-3)
