"""Settings given as NumPy's scalars are stored as Python's own: JSON-ready, and float32 stays."""

import json
from dataclasses import asdict, fields
from fractions import Fraction

import numpy as np
import pytest
from support import TINY, model_problem

import switch_np as snp
from switch_np import model
from switch_np.conventions.table import Conventions
from switch_np.operations import tree
from switch_np.training.adafactor import Adafactor
from switch_np.training.optimizer import AdamW
from switch_np.training.trainer import TrainConfig


def as_numpy(value):
    """Return a number as a scalar of NumPy; anything else as it is."""
    kind = {bool: np.bool_, int: np.int64, float: np.float64}.get(type(value))
    return value if kind is None else kind(value)


SETTINGS = [snp.SwitchConfig(capacity=3, groups=2, router_dropout=0.1, eval_capacity_factor=2.0),
            Conventions(eval_capacity_fraction=0.5, renorm_eps=0.1, expert_biases=True),
            snp.ModelConfig(dropout=0.1), TrainConfig(), AdamW(), Adafactor(beta_1=0.9)]


@pytest.mark.parametrize("plain", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_numbers_of_numpy_become_plain(plain):
    given = {f.name: as_numpy(getattr(plain, f.name)) for f in fields(plain)}
    assert any(isinstance(value, np.generic) for value in given.values())
    found = type(plain)(**given)
    assert found == plain and json.dumps(asdict(found)) == json.dumps(asdict(plain))
    for f in fields(plain):
        assert type(getattr(found, f.name)) is type(getattr(plain, f.name)), f.name


def test_other_rational_numbers_become_floats():
    config = snp.SwitchConfig(capacity_factor=Fraction(5, 4), jitter=np.longdouble(0.5),
                              router_dropout=np.float32(0.25))
    assert [repr(config.capacity_factor), repr(config.jitter), repr(config.router_dropout)] == [
        "1.25", "0.5", "0.25"]
    assert repr(snp.SwitchConfig(capacity_factor=1).capacity_factor) == "1"


@pytest.mark.parametrize("name", ["paper", "st_moe", "hf_deepseek_v3"])
def test_a_layer_with_numbers_of_numpy_stays_in_float32(name):
    config = snp.SwitchConfig.like(name, **{key: as_numpy(value) for key, value in dict(
        num_experts=4, top_k=2, jitter=0.1, router_dropout=0.2, expert_dropout=0.3,
        gate_scale=2.5, renorm_eps=0.1).items() if name != "paper" or key in vars(
            snp.SwitchConfig())})
    rng = np.random.default_rng(0)
    params = snp.switch_layer.init(rng, 3, 4, config, scale=np.float64(0.5), dtype=np.float32)
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    out, cache = snp.switch_layer.forward(params, x, config, rng=rng, training=True)
    d_x, grads = snp.switch_layer.backward(x, cache, np.float64(0.3), np.float64(0.2))
    for value in (out.y, out.probs, out.balance_loss, out.z_loss, d_x, *grads.values()):
        assert value.dtype == np.float32


def test_a_model_with_numbers_of_numpy_stays_in_float32():
    sizes = {key: as_numpy(value) for key, value in TINY.items()}
    config = snp.ModelConfig(**sizes, dropout=np.float64(0.2), norm_epsilon=np.float64(1e-6),
                             num_encoder_layers=np.int64(2), gated=np.True_)
    params, batch = model_problem(0, config)
    params = tree.apply(lambda a: a.astype(np.float32), params)
    loss, grads = model.loss_and_grads(params, batch, config, rng=np.random.default_rng(0),
                                       training=True)
    assert {value.dtype for value in tree.flatten(grads).values()} == {np.dtype(np.float32)}
    assert np.asarray(loss.total).dtype == np.float32
    assert snp.ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
