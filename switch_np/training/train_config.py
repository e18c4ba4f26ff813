"""The options of training: which task, for how long, at what learning rate and precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from switch_np.operations import check
from switch_np.training import selective
from switch_np.training.adafactor import Adafactor
from switch_np.training.optimizer import AdamW

TASK_NAMES = ["lm", "span", "pairs"]         # described in `tasks`


@dataclass(frozen=True)
class TrainConfig:
    """The options of training, validated when it is made.

    Parameters
    ----------
    task
        "lm": predict the next byte; "span": fill in missing spans; "pairs": write a target.
    steps, batch_size, seq_len
        Number of steps; windows (or pairs) per step; bytes per window (or at most ids per pair).
    corruption, mean_span
        For "span": the fraction of bytes dropped, and the mean length of a span.
    learning_rate, warmup
        Peak rate, reached in a linear warm-up of so many steps; a half cosine to 0 follows.
    max_norm, seed
        Global norm to which gradients are clipped; seed of initialization, batches and noise.
    dtype
        "float32", "float64", or a mode of `selective`, whose parameters are float32 between steps.
    optimizer
        The options of AdamW or of Adafactor, which may cap or scale the learning rate.
    bias_rate
        How far each step moves the bias for selection against the load, as in DeepSeek-V3 (0.001).
    """

    task: str = "lm"
    steps: int = 1200
    batch_size: int = 32
    seq_len: int = 64
    corruption: float = 0.15
    mean_span: float = 3.0
    learning_rate: float = 1e-2
    warmup: int = 100
    max_norm: float = 1.0
    seed: int = 0
    dtype: str = "float32"
    optimizer: AdamW | Adafactor = field(default_factory=AdamW)
    bias_rate: float = 0.0

    def __post_init__(self) -> None:
        check.choice("task", self.task, TASK_NAMES)
        for name, least in dict(steps=1, batch_size=1, seq_len=1, warmup=1, seed=0).items():
            check.integer(name, getattr(self, name), least)
        for name in ("learning_rate", "max_norm", "bias_rate"):
            check.number(name, getattr(self, name), 0)
        check.number("corruption", self.corruption, 0, 1)
        check.number("mean_span", self.mean_span, 1)
        check.choice("dtype", self.dtype, list(selective.MODES))
        check.instance("optimizer", self.optimizer, AdamW, Adafactor)
        check.plain(self)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The precision of the parameters between steps."""
        return np.dtype(np.float64 if self.dtype == "float64" else np.float32)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Return the config that `asdict` took apart; options missing from old files default."""
        check.instance("train config", values, Mapping)
        names = {f.name for f in fields(cls)}
        check.keys("train config", values, names & set(values) | {"optimizer"})
        kind = Adafactor if "decay" in values["optimizer"] else AdamW
        return cls(**{**values, "optimizer": kind(**values["optimizer"])})
