"""Adafactor against its formulas, and what it keeps, changes and refuses."""

import math

import numpy as np
import pytest
from training.small_run import CORPUS, MODEL

from switch_np.operations import tree
from switch_np.training import adafactor, trainer
from switch_np.training.adafactor import Adafactor
from switch_np.training.train_config import TrainConfig

SHAPES = {"vector": (5,), "matrix": (4, 3), "experts": (2, 3, 5)}
CONFIGS = [
    Adafactor(),
    Adafactor(beta_1=0.9, weight_decay=0.1),
    Adafactor(relative_step=False, scale_parameter=False, weight_decay=0.1),
    Adafactor(relative_step=False, beta_1=0.5),
    Adafactor(decay=0.6, epsilon_1=0.3, epsilon_2=5.0, clip_threshold=0.4, beta_1=0.0),
]


def draw(rng, dtype=np.float64):
    """Return arrays of one, two and three axes, whose entries differ in size."""
    return {name: (rng.standard_normal(shape) * 10 ** rng.uniform(-1, 1, shape)).astype(dtype)
            for name, shape in SHAPES.items()}


class Formulas:
    """Algorithms 4 and 5 of the paper for one array, with sums as it has them."""

    def __init__(self, x, config):
        self.x, self.config, self.t, self.averages = x.copy(), config, 0, {}

    def average(self, name, beta, value):
        self.averages[name] = beta * self.averages.get(name, 0) + (1 - beta) * value
        return self.averages[name]

    def step(self, g, cap):
        o, self.t = self.config, self.t + 1
        beta = 1 - self.t ** -o.decay
        rho = min(cap, 1 / math.sqrt(self.t)) if o.relative_step else cap
        alpha = rho * (max(o.epsilon_2, rms(self.x)) if o.scale_parameter else 1)
        square = g ** 2 + o.epsilon_1
        if g.ndim == 1:
            v = self.average("V", beta, square)
        else:
            r = self.average("R", beta, square.sum(-1, keepdims=True))
            c = self.average("C", beta, square.sum(-2, keepdims=True))
            v = r * c / r.sum(-2, keepdims=True)
        u = g / np.sqrt(v)
        change = alpha * u / max(1, rms(u) / o.clip_threshold)
        if o.beta_1 is not None:
            change = self.average("M", o.beta_1, change)
        decay = o.weight_decay if g.ndim > 1 else 0
        self.x = self.x - change - alpha * decay * self.x


def rms(x):
    return math.sqrt((x ** 2).mean())


@pytest.mark.parametrize("config", CONFIGS)
def test_adafactor_is_its_formulas(config):
    rng = np.random.default_rng(0)
    params = draw(rng)
    wanted = {name: Formulas(x, config) for name, x in params.items()}
    moments = adafactor.init(params, config)
    for t in range(1, 9):           # from the fifth step 1 / √t is below 0.5
        grads = draw(rng)
        adafactor.step(params, grads, moments, config, 0.5, t)
        for name, g in grads.items():
            wanted[name].step(g, 0.5)
            np.testing.assert_allclose(params[name], wanted[name].x, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("beta_1", [None, 0.9])
def test_nothing_of_a_matrix_size_is_kept_without_a_first_moment(beta_1):
    params = draw(np.random.default_rng(0))
    config = Adafactor(beta_1=beta_1)
    moments = adafactor.init(params, config)
    adafactor.step(params, params, moments, config, 1e-2, 1)
    sizes = {name: value.size for name, value in tree.flatten(moments).items()}
    first = {} if beta_1 is None else {"vector.m": 5, "matrix.m": 12, "experts.m": 30}
    assert sizes == {"vector.v": 5, "matrix.row": 4, "matrix.column": 3,
                     "experts.row": 2 * 3, "experts.column": 2 * 5, **first}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept_and_gradients_are_left_alone(dtype, config):
    rng = np.random.default_rng(1)
    params, grads = draw(rng, dtype), draw(rng, dtype)
    arrays, before = dict(params), tree.apply(np.copy, {"params": params, "grads": grads})
    moments = adafactor.init(params, config)
    for t in (1, 2):
        adafactor.step(params, grads, moments, config, np.float64(1e-2), t)
    tree.apply(np.testing.assert_array_equal, grads, before["grads"])
    for name, value in tree.flatten({"params": params, "moments": moments}).items():
        assert isinstance(value, np.ndarray) and value.dtype == dtype, name
    for name, value in params.items():
        assert value is arrays[name] and (value != before["params"][name]).all()


@pytest.mark.parametrize("config", [Adafactor(), Adafactor(decay=0.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_without_gradient_stay_where_they_are(dtype, config):
    """An embedding's row of a byte that never came, or came once; and a parameter without any."""
    params = {"table": np.ones((3, 4), dtype), "unused": np.ones((2, 2), dtype),
              "scale": np.ones(3, dtype)}
    grads = tree.apply(np.zeros_like, params)
    grads["table"][:2] = 1e9
    moments = adafactor.init(params, config)
    adafactor.step(params, grads, moments, config, 1e-2, 1)
    first = params["table"].copy()
    grads["table"][1] = 0
    for t in (2, 3):
        adafactor.step(params, grads, moments, config, 1e-2, t)
    assert (params["table"][0] < first[0]).all() and (first[:2] < 1).all()
    assert (params["table"][1:] == first[1:]).all() and (first[2] == 1).all()
    assert (params["unused"] == 1).all() and (params["scale"] == 1).all()


@pytest.mark.parametrize("options, error, message", [
    ({"decay": -0.8}, ValueError, "decay must be finite, at least 0, got -0.8"),
    ({"epsilon_1": 0.0}, ValueError, "epsilon_1 must be finite, at least 1.17549e-38, got 0.0"),
    ({"epsilon_2": "x"}, TypeError, "epsilon_2 must be a number, got 'x'"),
    ({"clip_threshold": 0}, ValueError, "clip_threshold must be finite, at least"),
    ({"beta_1": 1.0}, ValueError, "beta_1 must be finite, at least 0 and below 1, got 1.0"),
    ({"weight_decay": math.nan}, ValueError, "weight_decay must be finite"),
    ({"relative_step": 1}, TypeError, "relative_step must be True or False, got 1"),
    ({"scale_parameter": None}, TypeError, "scale_parameter must be True or False, got None"),
])
def test_nonsense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Adafactor(**options)


def test_the_model_learns_with_it():
    run = trainer.start(MODEL, TrainConfig(steps=60, batch_size=8, seq_len=16, warmup=5,
                                           learning_rate=5e-2, optimizer=Adafactor()), CORPUS)
    before = trainer.evaluate(run, CORPUS.held_out)
    for _ in range(60):
        trainer.advance(run, CORPUS)
    assert trainer.evaluate(run, CORPUS.held_out) < before - 2
