"""Training options come back from JSON, also from older files; nonsense is refused."""

import json
from dataclasses import asdict

import pytest

from switch_np.training import tasks
from switch_np.training.adafactor import Adafactor
from switch_np.training.optimizer import AdamW
from switch_np.training.train_config import TASK_NAMES, TrainConfig


def test_every_task_has_a_name():
    assert TASK_NAMES == list(tasks.TASKS)


@pytest.mark.parametrize("options", [AdamW(beta_1=0.8), Adafactor(), Adafactor(
    decay=0.6, beta_1=0.9, weight_decay=0.1, relative_step=False)])
def test_a_config_comes_back_with_its_optimizer(options):
    config = TrainConfig(steps=8, learning_rate=1e-3, optimizer=options)
    assert TrainConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


def test_older_files_are_read():
    older = {"steps": 5, "optimizer": {"beta_1": 0.9, "beta_2": 0.95, "epsilon": 1e-8,
                                       "weight_decay": 0.0}}
    assert TrainConfig.from_dict(older) == TrainConfig(
        steps=5, optimizer=AdamW(beta_2=0.95, weight_decay=0.0))


@pytest.mark.parametrize("options, message", [
    ({"steps": 0}, "steps must be at least 1, got 0"),
    ({"dtype": "int8"}, "dtype must be one of"),
    ({"learning_rate": float("nan")}, "learning_rate must be finite"),
    ({"optimizer": "adafactor"}, "optimizer must be a AdamW or Adafactor, got 'adafactor'")])
def test_nonsense_is_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TrainConfig(**options)
